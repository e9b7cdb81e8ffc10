// Files that are mapped into memory, by address: who cannot read a page of one any more ends with its name.
#ifndef SLUICE_MAPPINGS_H
#define SLUICE_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>

// `length` bytes from `start` on are the file at `path`. From the first call on, a page that cannot be read (SIGBUS: the
// file was cut, or the disk failed) ends the process with exit code 1 and an error line on stderr. False where there is no
// memory to keep that in.
bool sluice_mapping_add(const void *start, size_t length, const char *path);

// To be called before the pages are unmapped.
void sluice_mapping_remove(const void *start);

// The error goes to the beginning of this open file, too.
void sluice_mapping_copy_errors(int file);

// To be called before that file is closed.
void sluice_mapping_keep_errors(int file);

#endif
