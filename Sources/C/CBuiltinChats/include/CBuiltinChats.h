#pragma once

#include <stddef.h>

// The built-in calibration chats: JSON Lines, UTF-8, not terminated. They live as long as the program.
const unsigned char *sluice_builtin_chats(size_t *count);
