// glibc calls that Swift's Glibc module does not show.
#include <malloc.h>
