// A stand-in for libkrun, with which smolvm runs its machines on QEMU where no KVM guest boots.
//
// smolvm loads `libkrun.so` from SMOLVM_LIB_DIR and describes a machine by calls. Those that say what the machine
// is made of are recorded here, one JSON object a line; when the machine is to run, the record goes to the
// program `monitor`, which lies beside this library's folder. Functions that are not defined here are those of the
// real library, which this one is linked to. The signatures are those of libkrun.h.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

// One process describes one machine, from one thread.
static FILE *record(void) {
    static FILE *file;
    if (!file && !(file = fdopen(memfd_create("krun-record", MFD_CLOEXEC), "w+")))
        abort();
    return file;
}

static void string(const char *text) {
    FILE *file = record();
    fputc('"', file);
    for (; text && *text; text++) {
        unsigned char byte = *text;
        if (byte == '"' || byte == '\\')
            fprintf(file, "\\%c", byte);
        else if (byte < 0x20)
            fprintf(file, "\\u%04x", byte);
        else
            fputc(byte, file);
    }
    fputc('"', file);
}

static void strings(const char *key, const char *const list[]) {
    fprintf(record(), ",\"%s\":[", key);
    for (int i = 0; list && list[i]; i++) {
        if (i)
            fputc(',', record());
        string(list[i]);
    }
    fputc(']', record());
}

static int folder(const char *tag, const char *path, int read_only) {
    fputs("{\"call\":\"folder\",\"tag\":", record());
    string(tag);
    fputs(",\"path\":", record());
    string(path);
    fprintf(record(), ",\"read_only\":%s}\n", read_only ? "true" : "false");
    return 0;
}

static int disk(const char *id, const char *path, uint32_t format, int read_only) {
    fputs("{\"call\":\"disk\",\"id\":", record());
    string(id);
    fputs(",\"path\":", record());
    string(path);
    fprintf(record(), ",\"format\":%u,\"read_only\":%s}\n", format, read_only ? "true" : "false");
    return 0;
}

EXPORT int krun_set_vm_config(uint32_t context, uint8_t cpus, uint32_t memory_mib) {
    (void)context;
    fprintf(record(), "{\"call\":\"machine\",\"cpus\":%u,\"memory_mib\":%u}\n", cpus, memory_mib);
    return 0;
}

EXPORT int krun_add_virtiofs(uint32_t context, const char *tag, const char *path) {
    (void)context;
    return folder(tag, path, 0);
}

EXPORT int krun_add_virtiofs3(uint32_t context, const char *tag, const char *path, uint64_t window, uint8_t read_only) {
    (void)context, (void)window;
    return folder(tag, path, read_only);
}

// What follows `read_only` tunes the cache of the host.
EXPORT int krun_add_virtiofs4(uint32_t context, const char *tag, const char *path, uint64_t window, uint8_t read_only) {
    (void)context, (void)window;
    return folder(tag, path, read_only);
}

EXPORT int krun_add_disk2(uint32_t context, const char *id, const char *path, uint32_t format, uint8_t read_only) {
    (void)context;
    return disk(id, path, format, read_only);
}

// What follows `read_only` tunes the cache of the host.
EXPORT int krun_add_disk4(uint32_t context, const char *id, const char *path, uint32_t format, uint8_t read_only) {
    (void)context;
    return disk(id, path, format, read_only);
}

EXPORT int krun_add_vsock(uint32_t context, uint32_t features) {
    (void)context, (void)features;
    return 0;
}

// `listen`: the host connects to the socket, and the guest listens at the port. Otherwise it is the other way.
EXPORT int krun_add_vsock_port2(uint32_t context, uint32_t port, const char *path, uint8_t listen) {
    (void)context;
    fprintf(record(), "{\"call\":\"port\",\"port\":%u,\"listen\":%s,\"path\":", port, listen ? "true" : "false");
    string(path);
    fputs("}\n", record());
    return 0;
}

EXPORT int krun_add_net_unixstream(uint32_t context, const char *path, int fd, const uint8_t mac[6], uint32_t features,
                                   uint32_t flags) {
    (void)context, (void)path, (void)features, (void)flags;
    // dup(2) clears close-on-exec: the virtual machine inherits it.
    fprintf(record(), "{\"call\":\"network\",\"fd\":%d,\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\"}\n", dup(fd), mac[0],
            mac[1], mac[2], mac[3], mac[4], mac[5]);
    return 0;
}

EXPORT int krun_set_workdir(uint32_t context, const char *path) {
    (void)context, (void)path;
    return 0;
}

EXPORT int krun_set_exec(uint32_t context, const char *path, const char *const arguments[],
                         const char *const environment[]) {
    (void)context;
    fputs("{\"call\":\"exec\",\"path\":", record());
    string(path);
    strings("arguments", arguments);
    strings("environment", environment);
    fputs("}\n", record());
    return 0;
}

// The caller's other threads are the machine's network, so that the monitor cannot replace this process.
EXPORT int krun_start_enter(uint32_t context) {
    (void)context;
    Dl_info library;
    char monitor[4096];
    if (!dladdr((void *)krun_start_enter, &library))
        abort();
    const char *slash = strrchr(library.dli_fname, '/');
    snprintf(monitor, sizeof monitor, "%.*s/../monitor", slash ? (int)(slash - library.dli_fname) : 1,
             slash ? library.dli_fname : ".");
    fflush(record());
    lseek(fileno(record()), 0, SEEK_SET);
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fileno(record()), STDIN_FILENO);
        execl(monitor, monitor, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
