// glibc calls that Swift's Glibc module does not show.
#include <malloc.h>

// <fcntl.h> hides it unless _GNU_SOURCE comes first, and Swift has read that header by now.
extern int sync_file_range(int descriptor, long long offset, long long count, unsigned int flags);
enum { sluice_sync_file_range_write = 2 };
