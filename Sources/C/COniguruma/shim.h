// Oniguruma, and what of it Swift cannot import: macros and a variadic function.
#include <stddef.h>
#include <oniguruma.h>

// The encoding and the syntax are macros over mutable globals, which Swift does not import.

static inline int oniguruma_initialize(void) {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    return onig_initialize(encodings, 1);
}

// A pattern in UTF-8: in Oniguruma's own syntax, as the `tokenizers` package compiles it, or in Python's.
static inline int oniguruma_compile(
    OnigRegex *regex, const OnigUChar *pattern, size_t length, _Bool is_python, OnigErrorInfo *problem
) {
    return onig_new(
        regex, pattern, pattern + length, ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
        is_python ? ONIG_SYNTAX_PYTHON : ONIG_SYNTAX_ONIGURUMA, problem
    );
}

// onig_error_code_to_str takes its second argument as a variadic one.
static inline int oniguruma_message(OnigUChar *message, int code, OnigErrorInfo *problem) {
    return onig_error_code_to_str(message, code, problem);
}
