//! ioctl(2), whose requests are as many as drivers. A bottle has terminals, sockets and files, so the
//! requests for those are allowed; the answer to others is that of a device which does not know them.

use libc::ENOTTY;

use super::{
    super::{Answer, Case, REFUSED, Rule},
    is, masked,
};

/// The byte that tells the kind of device, linux/ioctl.h.
const KIND: u32 = 0xFF00;
const TERMINALS: u32 = 0x5400;
const SOCKETS: u32 = 0x8900;

// asm-generic/ioctls.h
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const TIOCCONS: u32 = 0x541D;
const TIOCSETD: u32 = 0x5423;

// linux/fs.h and linux/fiemap.h
const FIGETBSZ: u32 = 2;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940D;
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_FSGETXATTR: u32 = 0x801C_581F;
const FS_IOC_FIEMAP: u32 = 0xC020_660B;
const PAGEMAP_SCAN: u32 = 0xC060_6610;
const PROCMAP_QUERY: u32 = 0xC068_6611;

pub(super) const RULES: &[Rule] = &[Rule::by_argument(
    calls![SYS_ioctl],
    &[
        Case { tests: &[is(1, &[TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD])], answer: REFUSED },
        Case { tests: &[masked(1, KIND, &[TERMINALS, SOCKETS])], answer: Answer::Allow },
        Case {
            tests: &[is(
                1,
                &[
                    FIGETBSZ,
                    FICLONE,
                    FICLONERANGE,
                    FS_IOC_GETFLAGS,
                    FS_IOC_FSGETXATTR,
                    FS_IOC_FIEMAP,
                    PAGEMAP_SCAN,
                    PROCMAP_QUERY,
                ],
            )],
            answer: Answer::Allow,
        },
    ],
    Answer::Refuse(ENOTTY),
    "terminals and sockets; of files, cloning (`FICLONE`), block size, reading of flags, attributes and extents, \
     and a process's own map of memory; `TIOCSTI`, `TIOCLINUX`, `TIOCCONS`, `TIOCSETD` `EPERM`; else `ENOTTY`",
    "`TIOCSTI` and `TIOCLINUX` type into a terminal (CVE-2017-5226, CVE-2023-28100), `TIOCCONS` takes the console's \
     output, `TIOCSETD` loads line disciplines of modems into the kernel (CVE-2017-2636, CVE-2023-6546); what file \
     systems have of their own (encryption, verity, subvolumes, swapping of extents) is much code that no agent needs",
)
.elsewhere("Docker allows every request, Flatpak all but `TIOCSTI` and `TIOCLINUX`")];
