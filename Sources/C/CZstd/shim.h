// Zstandard: data sets and scratch files.
#include <zstd.h>
#include <zstd_errors.h>
