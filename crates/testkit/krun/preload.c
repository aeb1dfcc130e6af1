// What LD_PRELOAD replaces in two programs, so that a guest runs for any user and without KVM.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>

// virtiofsd gives up its supplementary groups, which the user namespace of an ordinary user refuses
// (user_namespaces(7), "setgroups").
int setgroups(size_t count, const gid_t *groups) {
    (void)count, (void)groups;
    return 0;
}

// smolvm starts a machine only where it can open /dev/kvm. It does not use it: libkrun would.
static const char *without_kvm(const char *path) {
    return path && !strcmp(path, "/dev/kvm") ? "/dev/null" : path;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return openat64(AT_FDCWD, without_kvm(path), flags, mode);
}

// Not as sys/stat.h declares it: Rust's standard library finds out with null pointers whether it is there.
int statx(int folder, const char *path, int flags, unsigned mask, void *found) {
    int (*real)(int, const char *, int, unsigned, void *) = dlsym(RTLD_NEXT, "statx");
    return real(folder, without_kvm(path), flags, mask, found);
}
