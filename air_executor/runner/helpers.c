/* air-queue and air-result: queue a task and set the result from any language, with no JSON to escape by hand.
 *
 *   air-queue [--FIELD VALUE]... [--] COMMAND [ARG...]
 *   air-result [JSON]                                       without an argument, from stdin
 *
 * The script `air-helper` beside this file does the same where this program cannot run. Their interface is the files
 * that AIR_QUEUE and AIR_RESULT name; the manager checks what is in them when it commits the run.
 */
#define _GNU_SOURCE
#include "helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, RESULT_LIMIT = 16 * 1024 };

enum kind { TEXT, NUMBER, LIST, PAIRS };

static const struct field {
    const char *name; /* as an option, with - for _ */
    enum kind kind;
} fields[] = {
    {"id", TEXT},          {"after", LIST},           {"when", TEXT},          {"env", PAIRS},
    {"secrets", LIST},     {"image", TEXT},           {"workdir", TEXT},       {"network", TEXT},
    {"timeout", TEXT},     {"grace", TEXT},           {"retries", NUMBER},     {"retry_delay", TEXT},
    {"delay", TEXT},       {"retry_backoff", NUMBER}, {"retry_jitter", NUMBER}, {"retry_max_delay", TEXT},
    {"not_before", TEXT},  {"priority", NUMBER},      {"labels", PAIRS},         {"description", TEXT},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static const char queue_usage[] =
    "usage: air-queue [--id ID] [--after TASK]... [--env NAME=VALUE]... [--FIELD VALUE]... [--] COMMAND [ARG...]\n"
    "Queue a task: the command runs after this task has succeeded. FIELD is any of a task's simple fields.\n";
static const char result_usage[] = "usage: air-result [JSON]\nSet this task's result; without an argument, from stdin.\n";

static const char *program;

static _Noreturn void stop(int code, const char *format, ...) {
    va_list values;
    va_start(values, format);
    dprintf(STDERR_FILENO, "%s: ", program);
    vdprintf(STDERR_FILENO, format, values);
    dprintf(STDERR_FILENO, "\n");
    va_end(values);
    exit(code);
}

static struct {
    char *data;
    size_t size, room;
} text;

static void put(const char *data, size_t size) {
    if (text.size + size > text.room) {
        text.room = 2 * (text.size + size) + 256;
        text.data = realloc(text.data, text.room);
        if (text.data == NULL) stop(FAILED, "out of memory");
    }
    memcpy(text.data + text.size, data, size);
    text.size += size;
}

static void put_text(const char *data) { put(data, strlen(data)); }

/* Returns the length of the UTF-8 character at `c`, 0 if there is none: overlong, a surrogate, beyond Unicode, cut. */
static size_t character(const unsigned char *c) {
    size_t length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f)) return 0;
    if ((c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f)) return 0;
    return length;
}

/* Appends a JSON string. A byte that is not UTF-8 becomes a lone surrogate, as in Python's os.fsdecode: the manager
 * turns it back into the byte. */
static void put_string(const char *string, size_t size) {
    const unsigned char *c = (const unsigned char *)string, *end = c + size;
    char escape[8];
    put_text("\"");
    while (c < end) {
        size_t length = character(c);
        if (length == 0 || *c < ' ' || *c == '"' || *c == '\\' || *c == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", length == 0 ? 0xdc00U + *c : *c);
            put_text(escape);
            c++;
        } else {
            put((const char *)c, length);
            c += length;
        }
    }
    put_text("\"");
}

static void put_word(const char *word) { put_string(word, strlen(word)); }

static const struct field *find_field(const char *option) {
    for (size_t i = 0; i < FIELDS; i++) {
        const char *a = option, *b = fields[i].name;
        while (*a && (*a == *b || (*a == '-' && *b == '_'))) a++, b++;
        if (!*a && !*b) return &fields[i];
    }
    stop(USAGE, "--%s is not a field that air-queue knows; write such a line of JSON to $AIR_QUEUE", option);
}

static void put_number(const char *option, const char *value) {
    const char *c = value + (*value == '-');
    size_t whole = strspn(c, "0123456789"), part = c[whole] == '.' ? strspn(c + whole + 1, "0123456789") : 0;
    bool number = whole > 0 && (whole == 1 || *c != '0') && c[whole + (part ? part + 1 : 0)] == '\0';
    if (!number) stop(USAGE, "%s takes a number, got %s", option, value);
    put_text(value);
}

/* Appends a field with the values of all options that name it, in their order. */
static void put_field(const struct field *field, char **options, int count) {
    bool first = true;
    put_word(field->name);
    put_text(field->kind == LIST ? ":[" : field->kind == PAIRS ? ":{" : ":");
    for (int i = 0; i < count; i += 2) {
        if (find_field(options[i] + 2) != field) continue;
        const char *value = options[i + 1], *equals = strchr(value, '=');
        if (!first && field->kind <= NUMBER) stop(USAGE, "%s is given twice", options[i]);
        if (!first) put_text(",");
        first = false;
        if (field->kind == NUMBER) {
            put_number(options[i], value);
        } else if (field->kind == PAIRS) {
            if (equals == NULL) stop(USAGE, "%s takes NAME=VALUE, got %s", options[i], value);
            put_string(value, (size_t)(equals - value));
            put_text(":");
            put_word(equals + 1);
        } else {
            put_word(value);
        }
    }
    put_text(field->kind == LIST ? "]," : field->kind == PAIRS ? "}," : ",");
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    if (value == NULL || !*value) stop(FAILED, "%s is not set; call this inside a task of Air-Executor", name);
    return value;
}

/* Appends a line with one write, so that those of concurrent processes of a task do not interleave. */
static void append(const char *path) {
    struct stat before, after;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || fstat(fd, &before) != 0) stop(FAILED, "cannot open %s: %s", path, strerror(errno));
    ssize_t written = write(fd, text.data, text.size);
    if (written == (ssize_t)text.size) return;
    /* A full volume. Remove the partial line, which would fail the run, unless another process has appended. */
    if (written > 0 && fstat(fd, &after) == 0 && after.st_size == before.st_size + written) {
        if (ftruncate(fd, before.st_size) != 0) stop(FAILED, "%s ends with half a line: %s", path, strerror(errno));
    }
    stop(FAILED, "cannot write %s: %s", path, written < 0 ? strerror(errno) : "no space left");
}

int queue_task(int argc, char **argv) {
    program = "air-queue";
    int word = 1;
    while (word < argc && strncmp(argv[word], "--", 2) == 0 && argv[word][2]) {
        if (strcmp(argv[word], "--help") == 0) {
            dprintf(STDOUT_FILENO, "%s", queue_usage);
            return 0;
        }
        find_field(argv[word] + 2);
        if (word + 1 >= argc) stop(USAGE, "%s needs a value", argv[word]);
        word += 2;
    }
    char **options = argv + 1;
    int count = word - 1;
    if (word < argc && strcmp(argv[word], "--") == 0) word++;
    if (word >= argc) {
        dprintf(STDERR_FILENO, "%s", queue_usage);
        return USAGE;
    }
    const char *path = variable("AIR_QUEUE");
    put_text("{");
    for (size_t i = 0; i < FIELDS; i++) {
        bool given = false;
        for (int option = 0; option < count; option += 2) given |= find_field(options[option] + 2) == &fields[i];
        if (given) put_field(&fields[i], options, count);
    }
    put_text("\"command\":[");
    for (int i = word; i < argc; i++) {
        if (i > word) put_text(",");
        put_word(argv[i]);
    }
    put_text("]}\n");
    append(path);
    return 0;
}

static void read_stdin(void) {
    char piece[4096];
    ssize_t size;
    while ((size = read(STDIN_FILENO, piece, sizeof piece)) > 0 && text.size <= RESULT_LIMIT) put(piece, (size_t)size);
    if (size < 0) stop(FAILED, "cannot read stdin: %s", strerror(errno));
}

int set_result(int argc, char **argv) {
    program = "air-result";
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "--help") == 0)) {
        dprintf(argc > 2 ? STDERR_FILENO : STDOUT_FILENO, "%s", result_usage);
        return argc > 2 ? USAGE : 0;
    }
    const char *path = variable("AIR_RESULT");
    char staged[PATH_MAX];
    if (argc == 2) put_text(argv[1]);
    else read_stdin();
    if (text.size > RESULT_LIMIT)
        stop(FAILED, "the result has more than %d bytes; write it to a file in the workspace, and set its name",
             RESULT_LIMIT);
    if (snprintf(staged, sizeof staged, "%s.%d.tmp", path, (int)getpid()) >= (int)sizeof staged)
        stop(FAILED, "AIR_RESULT is too long");
    int fd = open(staged, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) stop(FAILED, "cannot create %s: %s", staged, strerror(errno));
    bool written = write(fd, text.size ? text.data : "", text.size) == (ssize_t)text.size;
    if (!written || rename(staged, path) != 0) {
        int error = errno;
        unlink(staged);
        stop(FAILED, "cannot write %s: %s", path, strerror(error));
    }
    return 0;
}
