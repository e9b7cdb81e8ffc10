// Snappy, which parquet files are packed with.
#include <snappy-c.h>
