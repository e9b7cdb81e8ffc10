// A table of mappings that a signal handler may read, and the handler.
//
// It runs in the thread that met the bad page, in the middle of any function: only calls of signal-safety(7) are made,
// and the table is read without its lock.
#include "include/CMappings.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mapping {
    _Atomic(const char *) start;  // null while the place is free; set last and cleared first
    size_t length;
    char *path;
};

enum { PLACES = 128 };

// Chunks are added and never go: the handler may be reading them.
struct chunk {
    struct mapping mappings[PLACES];
    _Atomic(struct chunk *) next;
};

static struct chunk first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int copy = -1;
static atomic_flag is_ending = ATOMIC_FLAG_INIT;

struct text {
    char bytes[PATH_MAX + 512];
    size_t length;
};

static void add_text(struct text *text, const char *part) {
    for (; *part && text->length + 1 < sizeof text->bytes; part++) {
        // A name must not speak to the terminal.
        bool is_control = (unsigned char)*part < ' ' || *part == 127;
        text->bytes[text->length++] = is_control ? '?' : *part;
    }
}

static void add_number(struct text *text, size_t number) {
    char digits[24];
    size_t place = sizeof digits;
    digits[--place] = 0;
    do digits[--place] = (char)('0' + number % 10);
    while (number /= 10);
    add_text(text, digits + place);
}

static void end(const struct mapping *mapping) {
    // Other threads may meet bad pages at the same moment: one of them speaks.
    if (atomic_flag_test_and_set(&is_ending))
        while (true) pause();
    static const char subject[] = "error: ";
    struct text text = {.length = 0};
    add_text(&text, subject);
    add_text(&text, mapping->path);
    struct stat now;
    if (stat(mapping->path, &now) == 0 && (size_t)now.st_size < mapping->length) {
        add_text(&text, ": it was cut while it was read (");
        add_number(&text, (size_t)now.st_size);
        add_text(&text, " bytes, expected ");
        add_number(&text, mapping->length);
        add_text(&text, "); put the whole file back and give the same command again");
    } else {
        add_text(&text, ": reading failed: Input/output error; check the disk and give the same command again");
    }
    text.bytes[text.length++] = '\n';
    int file = atomic_load(&copy);
    size_t skipped = sizeof subject - 1;
    ssize_t ignored = file < 0 ? 0 : pwrite(file, text.bytes + skipped, text.length - skipped, 0);
    // A live line on a terminal does not end.
    bool is_terminal = fstat(STDERR_FILENO, &now) == 0 && S_ISCHR(now.st_mode);
    if (is_terminal) ignored = write(STDERR_FILENO, "\n", 1);
    ignored = write(STDERR_FILENO, text.bytes, text.length);
    (void)ignored;
    _exit(1);
}

static void on_bad_page(int number, siginfo_t *info, void *context) {
    (void)context;
    const char *address = info->si_addr;
    for (struct chunk *chunk = &first; chunk; chunk = atomic_load(&chunk->next)) {
        for (size_t place = 0; place < PLACES; place++) {
            const struct mapping *mapping = &chunk->mappings[place];
            const char *start = atomic_load(&mapping->start);
            if (start && address >= start && (size_t)(address - start) < mapping->length) end(mapping);
        }
    }
    // Nothing of ours: it ends the process as it would without this handler.
    signal(number, SIG_DFL);
    raise(number);
}

static void listen(void) {
    struct sigaction action = {.sa_sigaction = on_bad_page, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

// The place of `start`, or a free one for null, made where `grows`.
static struct mapping *find(const char *start, bool grows) {
    for (struct chunk *chunk = &first;;) {
        for (size_t place = 0; place < PLACES; place++)
            if (atomic_load(&chunk->mappings[place].start) == start) return &chunk->mappings[place];
        struct chunk *next = atomic_load(&chunk->next);
        if (!next && grows && (next = calloc(1, sizeof *next))) atomic_store(&chunk->next, next);
        if (!next) return NULL;
        chunk = next;
    }
}

bool sluice_mapping_add(const void *start, size_t length, const char *path) {
    pthread_once(&once, listen);
    char *name = strdup(path);
    if (!name) return false;
    pthread_mutex_lock(&lock);
    struct mapping *mapping = find(NULL, true);
    if (mapping) {
        mapping->length = length;
        mapping->path = name;
        atomic_store(&mapping->start, start);
    }
    pthread_mutex_unlock(&lock);
    if (!mapping) free(name);
    return mapping;
}

void sluice_mapping_remove(const void *start) {
    pthread_mutex_lock(&lock);
    struct mapping *mapping = find(start, false);
    if (mapping) {
        atomic_store(&mapping->start, NULL);
        free(mapping->path);
    }
    pthread_mutex_unlock(&lock);
}

void sluice_mapping_copy_errors(int file) { atomic_store(&copy, file); }

void sluice_mapping_keep_errors(int file) { atomic_compare_exchange_strong(&copy, &file, -1); }
