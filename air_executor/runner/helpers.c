/* air-queue, air-result, air-again, air-progress and air-usage: queue a task, set the result, ask for another run of
 * this task, report how far it is and what it used: from any language, with no JSON to escape by hand.
 *
 *   air-queue [--FIELD VALUE]... [--] COMMAND [ARG...]
 *   air-queue --task FILE
 *   air-queue --job FILE [--join]
 *   air-result [JSON]                                       without an argument, from stdin
 *   air-again [DELAY]                                       without an argument, after the task's again_delay
 *   air-progress DONE [OF [NOTE]]
 *   air-usage NAME=AMOUNT...
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

enum kind { TEXT, NUMBER, FLAG, LIST, NUMBERS, PAIRS }; /* from LIST on, the option may be given several times */

static const struct field {
    const char *name; /* as an option, with - for _ */
    enum kind kind;
} fields[] = {
    {"id", TEXT},          {"after", LIST},           {"when", TEXT},          {"env", PAIRS},
    {"secrets", LIST},     {"image", TEXT},           {"workdir", TEXT},       {"network", TEXT},
    {"timeout", TEXT},     {"grace", TEXT},           {"retries", NUMBER},     {"retry_delay", TEXT},
    {"delay", TEXT},       {"retry_backoff", NUMBER}, {"retry_jitter", NUMBER}, {"retry_max_delay", TEXT},
    {"not_before", TEXT},  {"priority", NUMBER},      {"labels", PAIRS},         {"description", TEXT},
    {"delay_after", TEXT}, {"retry_on", NUMBERS},     {"no_retry_on", NUMBERS},  {"skip_on", NUMBERS},
    {"again_on", NUMBERS}, {"again_delay", TEXT},     {"again_max", NUMBER},     {"again_until", TEXT},
    {"allow_failure", FLAG}, {"group", TEXT},         {"stall_timeout", TEXT},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static const char queue_usage[] =
    "usage: air-queue [--id ID] [--after TASK]... [--env NAME=VALUE]... [--FIELD VALUE]... [--] COMMAND [ARG...]\n"
    "       air-queue --task FILE\n"
    "       air-queue --job FILE [--join]\n"
    "Queue a task: the command runs after this task has succeeded. FIELD is any of a task's simple fields.\n"
    "With --task, queue the task that a file of JSON describes, with any fields.\n"
    "With --job, submit the job that a file of JSON describes; with --join, this job waits for it.\n";

static const char result_usage[] =
    "usage: air-result [JSON]\n"
    "Set this task's result; without an argument, from stdin.\n";

static const char again_usage[] =
    "usage: air-again [DELAY]\n"
    "Ask for another run of this task, after a DELAY such as 10m, once this run has succeeded.\n";

static const char progress_usage[] =
    "usage: air-progress DONE [OF [NOTE]]\n"
    "Report how far this task is; it is shown while the task runs.\n";

static const char usage_usage[] =
    "usage: air-usage NAME=AMOUNT...\n"
    "Report what this task has used since it last did, such as usd=0.35 tokens=1200.\n";

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

static bool asks_for_help(int argc, char **argv) { return argc == 2 && strcmp(argv[1], "--help") == 0; }

/* Prints how to call the helper. Returns its exit code. */
static int show(const char *usage, bool asked) {
    dprintf(asked ? STDOUT_FILENO : STDERR_FILENO, "%s", usage);
    return asked ? 0 : USAGE;
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
    stop(USAGE, "--%s is not a field that air-queue knows; give it in a file of JSON, with --task", option);
}

static void check_number(const char *option, const char *value) {
    const char *c = value + (*value == '-');
    size_t whole = strspn(c, "0123456789"), part = c[whole] == '.' ? strspn(c + whole + 1, "0123456789") : 0;
    bool number = whole > 0 && (whole == 1 || *c != '0') && c[whole + (part ? part + 1 : 0)] == '\0';
    if (!number) stop(USAGE, "%s takes a number, got %s", option, value);
}

static void put_number(const char *option, const char *value) {
    check_number(option, value);
    put_text(value);
}

/* Checks the last of some options, of which each is a name and a value. */
static void check_option(char **options, int last) {
    const char *option = options[last], *value = options[last + 1];
    const struct field *field = find_field(option + 2);
    for (int i = 0; i < last && field->kind < LIST; i += 2)
        if (find_field(options[i] + 2) == field) stop(USAGE, "%s is given twice", option);
    if (field->kind == NUMBER || field->kind == NUMBERS) check_number(option, value);
    if (field->kind == FLAG && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        stop(USAGE, "%s takes true or false, got %s", option, value);
    if (field->kind == PAIRS && strchr(value, '=') == NULL) stop(USAGE, "%s takes NAME=VALUE, got %s", option, value);
}

/* Appends a field with the values of all options that name it, in their order. They have been checked. */
static void put_field(const struct field *field, char **options, int count) {
    bool first = true, list = field->kind == LIST || field->kind == NUMBERS;
    put_word(field->name);
    put_text(list ? ":[" : field->kind == PAIRS ? ":{" : ":");
    for (int i = 0; i < count; i += 2) {
        if (find_field(options[i] + 2) != field) continue;
        const char *value = options[i + 1], *equals = strchr(value, '=');
        if (!first) put_text(",");
        first = false;
        if (field->kind == NUMBER || field->kind == NUMBERS || field->kind == FLAG) {
            put_text(value);
        } else if (field->kind == PAIRS && equals != NULL) {
            put_string(value, (size_t)(equals - value));
            put_text(":");
            put_word(equals + 1);
        } else {
            put_word(value);
        }
    }
    put_text(list ? "]," : field->kind == PAIRS ? "}," : ",");
}

/* Appends the fields that the options name, in an order of their own. */
static void put_fields(char **options, int count) {
    for (size_t i = 0; i < FIELDS; i++) {
        bool given = false;
        for (int option = 0; option < count; option += 2) given |= find_field(options[option] + 2) == &fields[i];
        if (given) put_field(&fields[i], options, count);
    }
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

/* Appends the line that queues the task, or submits the job, which a file describes: its JSON, on one line. */
static int queue_file(int argc, char **argv, bool job) {
    bool join = job && argc == 4 && strcmp(argv[3], "--join") == 0;
    if (argc != 3 && !join) return show(queue_usage, false);
    const char *path = variable("AIR_QUEUE");
    FILE *file = fopen(argv[2], "r");
    if (file == NULL) stop(FAILED, "cannot read %s: %s", argv[2], strerror(errno));
    if (job) put_text("{\"job\":");
    size_t start = text.size, got;
    char part[4096];
    while ((got = fread(part, 1, sizeof part, file)) > 0) put(part, got);
    if (ferror(file)) stop(FAILED, "cannot read %s", argv[2]);
    fclose(file);
    /* Outside of strings, which have none, line ends of JSON mean nothing. */
    for (size_t i = start; i < text.size; i++)
        if (text.data[i] == '\n' || text.data[i] == '\r') text.data[i] = ' ';
    while (start < text.size && text.data[start] == ' ') start++;
    if (start == text.size || text.data[start] != '{') stop(USAGE, "%s must be JSON: an object, like {\"id\": …}", argv[2]);
    put_text(join ? ",\"join\":true}\n" : job ? "}\n" : "\n");
    append(path);
    return 0;
}

static int queue_task(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--join") == 0 && strcmp(argv[2], "--job") == 0) {
        char *join = argv[1];
        argv[1] = argv[2], argv[2] = argv[3], argv[3] = join;
    }
    bool job = argc > 2 && strcmp(argv[1], "--job") == 0;
    if (job || (argc > 2 && strcmp(argv[1], "--task") == 0)) return queue_file(argc, argv, job);
    int word = 1;
    while (word < argc && strncmp(argv[word], "--", 2) == 0 && argv[word][2]) {
        if (strcmp(argv[word], "--help") == 0) return show(queue_usage, true);
        if (word + 1 >= argc) stop(USAGE, "%s needs a value", argv[word]);
        check_option(argv + 1, word - 1);
        word += 2;
    }
    char **options = argv + 1;
    int count = word - 1;
    if (word < argc && strcmp(argv[word], "--") == 0) word++;
    if (word >= argc) return show(queue_usage, false);
    const char *path = variable("AIR_QUEUE");
    put_text("{");
    put_fields(options, count);
    put_text("\"command\":[");
    for (int i = word; i < argc; i++) {
        if (i > word) put_text(",");
        put_word(argv[i]);
    }
    put_text("]}\n");
    append(path);
    return 0;
}

static int ask_again(int argc, char **argv) {
    if (argc > 2 || asks_for_help(argc, argv)) return show(again_usage, argc == 2);
    const char *path = variable("AIR_QUEUE");
    put_text("{\"again\":{");
    if (argc == 2) {
        put_text("\"delay\":");
        put_word(argv[1]);
    }
    put_text("}}\n");
    append(path);
    return 0;
}

static int report_progress(int argc, char **argv) {
    bool help = asks_for_help(argc, argv);
    if (help || argc < 2 || argc > 4) return show(progress_usage, help);
    put_text("{\"progress\":{\"done\":");
    put_number("DONE", argv[1]);
    if (argc > 2) {
        put_text(",\"of\":");
        put_number("OF", argv[2]);
    }
    if (argc > 3) {
        put_text(",\"note\":");
        put_word(argv[3]);
    }
    put_text("}}\n");
    append(variable("AIR_QUEUE"));
    return 0;
}

static int report_usage(int argc, char **argv) {
    bool help = asks_for_help(argc, argv);
    if (help || argc < 2) return show(usage_usage, help);
    put_text("{\"usage\":{");
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (equals == NULL || equals == argv[i]) stop(USAGE, "takes NAME=AMOUNT, got %s", argv[i]);
        if (i > 1) put_text(",");
        put_string(argv[i], (size_t)(equals - argv[i]));
        put_text(":");
        put_number("AMOUNT", equals + 1);
    }
    put_text("}}\n");
    append(variable("AIR_QUEUE"));
    return 0;
}

static void read_stdin(void) {
    char piece[4096];
    ssize_t size;
    while ((size = read(STDIN_FILENO, piece, sizeof piece)) > 0 && text.size <= RESULT_LIMIT) put(piece, (size_t)size);
    if (size < 0) stop(FAILED, "cannot read stdin: %s", strerror(errno));
}

static int set_result(int argc, char **argv) {
    if (argc > 2 || asks_for_help(argc, argv)) return show(result_usage, argc == 2);
    const char *path = variable("AIR_RESULT");
    char staged[PATH_MAX];
    if (argc == 2) put_text(argv[1]);
    else read_stdin();
    if (text.size > RESULT_LIMIT)
        stop(FAILED,
             "the result has more than %d bytes; write it to a file in the workspace and set its name, or queue a task "
             "for each of its items",
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

static const struct {
    const char *name;
    helper *start;
} helpers[] = {
    {"air-queue", queue_task},
    {"air-result", set_result},
    {"air-again", ask_again},
    {"air-progress", report_progress},
    {"air-usage", report_usage},
};

helper *find_helper(const char *name) {
    for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++)
        if (strcmp(name, helpers[i].name) == 0) {
            program = helpers[i].name;
            return helpers[i].start;
        }
    return NULL;
}
