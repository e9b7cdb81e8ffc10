// LD_PRELOADed into the program: kills it at a chosen system call, makes one fail, or records them all.
//
// Only calls that change what is on a disk count, and only on paths below SLUICE_FAULT_ROOT (absolute, without links).
//
//   SLUICE_FAULT="ACTION CALLS N [ERRNO [SUFFIX]]"
//     ACTION   kill-before, kill-after; kill-within (half of a write is done); short (half is written and said so);
//              fail; fail-on (and every later one); full (short, then fail-on)
//     CALLS    names as below joined by `+`
//     N        from 1: the how manieth of these calls
//     SUFFIX   only calls on paths that end so; of a rename, the new name. Without, progress.json does not count: how
//              often it is written is a matter of time
//   SLUICE_FAULT_TRACE=FILE
//     appends a line for each call: NAME RESULT OFFSET LENGTH PATH, a tab and the new PATH of a rename; RESULT is -1 for
//     a failure. Of an open for writing, OFFSET is 1 if it empties the file and LENGTH 1 if there was one. What was
//     written goes to FILE.data, back to back.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// What one call meets.
struct fault {
    const char *call;
    const char *path;
    int code;  // fails with this errno if not 0
    bool halves;
    bool kills;
};

static const char *root;
static char action[16], calls[128], suffix[256];
static long wanted, counted;
static int code = EIO;
static int trace = -1, trace_data = -1;
// Held over a call and its record, so that the trace has the order of the disk.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int open_trace(const char *path) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

__attribute__((constructor)) static void read_environment(void) {
    root = getenv("SLUICE_FAULT_ROOT");
    const char *fault = getenv("SLUICE_FAULT");
    if (fault && sscanf(fault, "%15s %127s %ld %d %255s", action, calls, &wanted, &code, suffix) < 3) {
        fprintf(stderr, "SLUICE_FAULT: expected ACTION CALLS N [ERRNO [SUFFIX]], found %s\n", fault);
        abort();
    }
    const char *file = getenv("SLUICE_FAULT_TRACE");
    if (file) {
        char data[PATH_MAX];
        snprintf(data, sizeof data, "%s.data", file);
        trace = open_trace(file);
        trace_data = open_trace(data);
        if (trace < 0 || trace_data < 0) {
            perror(file);
            abort();
        }
    }
}

static bool inside(const char *path) {
    size_t length = root ? strlen(root) : 0;
    return length && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

// The path of an open file now, whatever it was called when it was opened.
static bool path_of(int file, char path[PATH_MAX]) {
    if (!root) return false;
    int saved = errno;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    if (length < 0) return false;
    path[length] = 0;
    return inside(path);
}

static bool ends(const char *path, const char *with) {
    size_t length = strlen(path), part = strlen(with);
    return part <= length && strcmp(path + length - part, with) == 0;
}

static bool is_chosen(const char *call, const char *path) {
    size_t length = strlen(call), end = strlen(suffix), all = strlen(path);
    if (!end && (ends(path, "/progress.json") || ends(path, "/progress.json.tmp"))) return false;
    if (end > all || strcmp(path + all - end, suffix) != 0) return false;
    for (const char *found = calls; (found = strstr(found, call)); found += length) {
        bool starts = found == calls || found[-1] == '+';
        if (starts && (found[length] == '+' || found[length] == 0)) return true;
    }
    return false;
}

static _Noreturn void die(void) {
    kill(getpid(), SIGKILL);
    while (true) pause();
}

static struct fault enter(const char *call, const char *path) {
    pthread_mutex_lock(&lock);
    struct fault fault = {.call = call, .path = path};
    if (!is_chosen(call, path)) return fault;
    bool is_now = ++counted == wanted, is_later = counted > wanted;
    if (strcmp(action, "kill-before") == 0 && is_now) die();
    bool within = strcmp(action, "kill-within") == 0, full = strcmp(action, "full") == 0;
    fault.kills = is_now && (within || strcmp(action, "kill-after") == 0);
    fault.halves = is_now && (within || full || strcmp(action, "short") == 0);
    bool from = strcmp(action, "fail-on") == 0;
    if ((is_now && (from || strcmp(action, "fail") == 0)) || (is_later && (from || full))) fault.code = code;
    return fault;
}

static size_t part(struct fault fault, size_t length) { return fault.halves ? (length + 1) / 2 : length; }

// Never fails halfway: a trace with a hole would be worse than none.
static void record(int file, const void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        long count = syscall(SYS_write, file, (const char *)bytes + done, length - done);
        if (count <= 0) abort();
        done += (size_t)count;
    }
}

// Records what was done and gives back what the caller is to see.
static long leave(struct fault fault, long result, long offset, long length, const char *to, const void *data) {
    int saved = fault.code ? fault.code : errno;
    if (trace >= 0) {
        char line[2 * PATH_MAX + 96];
        int count = snprintf(line, sizeof line, "%s %d %ld %ld %s%s%s\n", fault.call, result < 0 ? -1 : 0, offset,
                             data && result >= 0 ? result : length, fault.path, to ? "\t" : "", to ? to : "");
        if (data && result > 0) record(trace_data, data, (size_t)result);
        record(trace, line, (size_t)count);
    }
    if (fault.kills) die();
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

static int open_at(int folder, const char *name, int flags, mode_t mode) {
    bool writes = flags & (O_CREAT | O_TRUNC);
    if (!writes || folder != AT_FDCWD || !inside(name)) return (int)syscall(SYS_openat, folder, name, flags, mode);
    struct fault fault = enter("open", name);
    bool existed = syscall(SYS_faccessat, AT_FDCWD, name, F_OK) == 0;
    long file = fault.code ? -1 : syscall(SYS_openat, folder, name, flags, mode);
    return (int)leave(fault, file, (flags & O_TRUNC) != 0, existed, NULL, NULL);
}

// The mode is there only with O_CREAT; read without, it is not used.
#define MODE(last) ({ va_list list; va_start(list, last); mode_t mode = va_arg(list, mode_t); va_end(list); mode; })

int open(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int folder, const char *path, int flags, ...) { return open_at(folder, path, flags, MODE(flags)); }
int openat64(int folder, const char *path, int flags, ...) { return open_at(folder, path, flags, MODE(flags)); }

ssize_t write(int file, const void *data, size_t length) {
    char path[PATH_MAX];
    if (!path_of(file, path)) return syscall(SYS_write, file, data, length);
    struct fault fault = enter("write", path);
    long offset = syscall(SYS_lseek, file, 0, SEEK_CUR);
    long result = fault.code ? -1 : syscall(SYS_write, file, data, part(fault, length));
    return leave(fault, result, offset, (long)length, NULL, data);
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
    char path[PATH_MAX];
    if (!path_of(file, path)) return syscall(SYS_pwrite64, file, data, length, offset);
    struct fault fault = enter("pwrite", path);
    long result = fault.code ? -1 : syscall(SYS_pwrite64, file, data, part(fault, length), offset);
    return leave(fault, result, offset, (long)length, NULL, data);
}
ssize_t pwrite64(int, const void *, size_t, off64_t) __attribute__((alias("pwrite")));

int ftruncate(int file, off_t length) {
    char path[PATH_MAX];
    if (!path_of(file, path)) return (int)syscall(SYS_ftruncate, file, length);
    struct fault fault = enter("ftruncate", path);
    long result = fault.code ? -1 : syscall(SYS_ftruncate, file, length);
    return (int)leave(fault, result, 0, length, NULL, NULL);
}
int ftruncate64(int, off64_t) __attribute__((alias("ftruncate")));

// This one returns its errno.
int posix_fallocate(int file, off_t offset, off_t length) {
    char path[PATH_MAX];
    int saved = errno;
    bool counts = path_of(file, path);
    struct fault fault = counts ? enter("posix_fallocate", path) : (struct fault){0};
    long result = fault.code ? -1 : syscall(SYS_fallocate, file, 0, offset, length);
    if (counts) result = leave(fault, result, offset, length, NULL, NULL);
    int failure = result < 0 ? errno : 0;
    errno = saved;
    return failure;
}
int posix_fallocate64(int, off64_t, off64_t) __attribute__((alias("posix_fallocate")));

static int synchronize(const char *call, long number, int file) {
    char path[PATH_MAX];
    if (!path_of(file, path)) return (int)syscall(number, file);
    struct fault fault = enter(call, path);
    long result = fault.code ? -1 : syscall(number, file);
    return (int)leave(fault, result, 0, 0, NULL, NULL);
}

int fsync(int file) { return synchronize("fsync", SYS_fsync, file); }
int fdatasync(int file) { return synchronize("fdatasync", SYS_fdatasync, file); }

int rename(const char *from, const char *to) {
    if (!inside(to)) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    struct fault fault = enter("rename", to);
    long result = fault.code ? -1 : syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    fault.path = from;
    return (int)leave(fault, result, 0, 0, to, NULL);
}

int mkdir(const char *path, mode_t mode) {
    if (!inside(path)) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    struct fault fault = enter("mkdir", path);
    long result = fault.code ? -1 : syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    return (int)leave(fault, result, 0, 0, NULL, NULL);
}

static int remove_at(const char *call, const char *path, int flags) {
    if (!inside(path)) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
    struct fault fault = enter(call, path);
    long result = fault.code ? -1 : syscall(SYS_unlinkat, AT_FDCWD, path, flags);
    return (int)leave(fault, result, 0, 0, NULL, NULL);
}

int unlink(const char *path) { return remove_at("unlink", path, 0); }
int rmdir(const char *path) { return remove_at("rmdir", path, AT_REMOVEDIR); }
