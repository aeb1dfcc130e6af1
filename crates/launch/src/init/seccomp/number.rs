//! Numbers of system calls: those of the `libc` crate, and those that some of its C libraries lack, which go
//! before its own. Since Linux 5.1 a new call has the same number on every architecture.
#![allow(non_upper_case_globals, reason = "as the C library spells them")]

use libc::c_long;
pub(super) use libc::*;

/// Linux 6.5.
pub(super) const SYS_cachestat: c_long = 451;
/// Linux 6.6.
pub(super) const SYS_fchmodat2: c_long = 452;
/// Linux 6.6.
pub(super) const SYS_map_shadow_stack: c_long = 453;
/// Linux 6.7.
pub(super) const SYS_futex_wake: c_long = 454;
/// Linux 6.7.
pub(super) const SYS_futex_wait: c_long = 455;
/// Linux 6.7.
pub(super) const SYS_futex_requeue: c_long = 456;
/// Linux 6.8.
pub(super) const SYS_statmount: c_long = 457;
/// Linux 6.8.
pub(super) const SYS_listmount: c_long = 458;
/// Linux 6.8.
pub(super) const SYS_lsm_get_self_attr: c_long = 459;
/// Linux 6.8.
pub(super) const SYS_lsm_set_self_attr: c_long = 460;
/// Linux 6.8.
pub(super) const SYS_lsm_list_modules: c_long = 461;
/// Linux 6.10.
pub(super) const SYS_mseal: c_long = 462;
/// Linux 6.13.
pub(super) const SYS_setxattrat: c_long = 463;
/// Linux 6.13.
pub(super) const SYS_getxattrat: c_long = 464;
/// Linux 6.13.
pub(super) const SYS_listxattrat: c_long = 465;
/// Linux 6.13.
pub(super) const SYS_removexattrat: c_long = 466;
/// Linux 6.15.
pub(super) const SYS_open_tree_attr: c_long = 467;
/// Linux 6.17.
pub(super) const SYS_file_getattr: c_long = 468;
/// Linux 6.17.
pub(super) const SYS_file_setattr: c_long = 469;

/// Linux 4.18.
#[cfg(target_arch = "x86_64")]
pub(super) const SYS_io_pgetevents: c_long = 333;
/// Linux 4.18.
#[cfg(target_arch = "aarch64")]
pub(super) const SYS_io_pgetevents: c_long = 292;
/// Linux 6.11.
#[cfg(target_arch = "x86_64")]
pub(super) const SYS_uretprobe: c_long = 335;
/// Linux 6.18.
#[cfg(target_arch = "x86_64")]
pub(super) const SYS_uprobe: c_long = 336;
/// Until Linux 2.6.
#[cfg(target_arch = "x86_64")]
pub(super) const SYS_create_module: c_long = 174;
/// Until Linux 2.6.
#[cfg(target_arch = "x86_64")]
pub(super) const SYS_get_kernel_syms: c_long = 177;
/// Until Linux 2.6.
#[cfg(target_arch = "x86_64")]
pub(super) const SYS_query_module: c_long = 178;
