// zlib: gzip in data sets, and CRC-32.
#include <zlib.h>
