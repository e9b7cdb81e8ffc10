// The calibration chats that a run uses when it is given none; tools/fixtures/make_builtin_chats.py writes chats.jsonl.
//
// Most of it is our own text, or computed by that script: dedicated to the public domain (CC0 1.0). The rows that
// explain Python's standard library quote its docstrings: Copyright (c) 2001-2023 Python Software Foundation, all
// rights reserved, under the PSF License Agreement (LICENSE-PYTHON.txt). Changes: the docstrings of single functions and
// classes were picked out and set as answers in chats; their wording is as it was.

#include "CBuiltinChats.h"

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc23-extensions"
static const unsigned char chats[] = {
#embed "chats.jsonl"
};
#pragma clang diagnostic pop

const unsigned char *sluice_builtin_chats(size_t *count) {
  *count = sizeof chats;
  return chats;
}
