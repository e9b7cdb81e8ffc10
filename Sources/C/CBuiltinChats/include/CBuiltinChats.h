// The built-in calibration chats, as bytes of the program.
#pragma once

#include <stddef.h>

// JSON Lines in UTF-8, not terminated. They live as long as the program.
const unsigned char *sluice_builtin_chats(size_t *count);
