// glibc calls that Swift's Glibc module does not show.
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

// <fcntl.h> hides it unless _GNU_SOURCE comes first, and Swift has read that header by now.
extern int sync_file_range(int descriptor, long long offset, long long count, unsigned int flags);
enum { sluice_sync_file_range_write = 2 };

// <fcntl.h> hides these as well.
static const int sluice_get_lock = 36;  // F_OFD_GETLK
static const int sluice_set_lock = 37;  // F_OFD_SETLK

// <pthread.h> hides it as well: what threads get that are started without attributes.
extern int pthread_setattr_default_np(const pthread_attr_t *attributes);

// <stdio.h> hides it as well, and glibc older than 2.28 has none.
static inline int sluice_exchange(const char *path, const char *other) {
    const int here = -100;     // AT_FDCWD
    const unsigned exchange = 2;  // RENAME_EXCHANGE
    return (int)syscall(SYS_renameat2, here, path, here, other, exchange);
}

// How many processors the calling thread may run on. By hand: glibc's type for the mask ends at 1,024 of them.
static inline int sluice_allowed_processors(void) {
    unsigned long mask[1024] = {0};
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int count = 0;
    for (long word = 0; word < bytes / (long)sizeof *mask; word++) count += __builtin_popcountl(mask[word]);
    return count > 0 ? count : INT_MAX;
}
