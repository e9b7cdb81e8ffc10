#include <stddef.h>
#include <oniguruma.h>

// The encoding and the syntax are macros over mutable globals, which Swift does not import.

static inline int oniguruma_initialize(void) {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    return onig_initialize(encodings, 1);
}

// A pattern in UTF-8, compiled as the `tokenizers` package compiles it: Oniguruma's own syntax, no option.
static inline int oniguruma_compile(
    OnigRegex *regex, const OnigUChar *pattern, size_t length, OnigErrorInfo *problem
) {
    return onig_new(
        regex, pattern, pattern + length, ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_ONIGURUMA, problem
    );
}

// onig_error_code_to_str takes its second argument as a variadic one.
static inline int oniguruma_message(OnigUChar *message, int code, OnigErrorInfo *problem) {
    return onig_error_code_to_str(message, code, problem);
}
