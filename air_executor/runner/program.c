#define _GNU_SOURCE
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int check_program(const char *path) {
    struct stat found;
    if (stat(path, &found) != 0) return ENOENT;
    return S_ISDIR(found.st_mode) || access(path, X_OK) != 0 ? EACCES : 0;
}

int find_program(const char *name, char path[PATH_MAX]) {
    int result = ENOENT;
    const char *folder = getenv("PATH");
    if (strchr(name, '/') != NULL || !*name) {
        result = *name ? check_program(name) : ENOENT;
        snprintf(path, PATH_MAX, "%s", result == 0 ? name : "");
        return result;
    }
    for (folder = folder != NULL ? folder : DEFAULT_PATH; folder != NULL;) {
        int length = (int)strcspn(folder, ":");
        int size = snprintf(path, PATH_MAX, "%.*s%s%s", length, folder, length ? "/" : "./", name);
        int found = size < PATH_MAX ? check_program(path) : ENOENT;
        if (found == 0) return 0;
        if (found == EACCES) result = EACCES;
        folder = folder[length] ? folder + length + 1 : NULL;
    }
    path[0] = '\0';
    return result;
}

/* Returns as `read_interpreter`, of the first `size` bytes of the file, which a NUL follows. */
static char *interpreter_of(char *head, size_t size) {
    if (strncmp(head, "#!", 2) == 0) {
        char *name = head + 2 + strspn(head + 2, " \t");
        name[strcspn(name, " \t\n")] = '\0';
        return name;
    }
    ElfW(Ehdr) program;
    ElfW(Phdr) part;
    if (size < sizeof program || memcmp(head, ELFMAG, SELFMAG) != 0) return NULL;
    memcpy(&program, head, sizeof program);
    for (size_t number = 0; number < program.e_phnum; number++) {
        size_t at = program.e_phoff + number * sizeof part;
        if (program.e_phoff > size || at + sizeof part > size) return NULL;
        memcpy(&part, head + at, sizeof part);
        if (part.p_type == PT_INTERP) return part.p_offset < size ? head + part.p_offset : NULL;
    }
    return NULL;
}

char *read_interpreter(const char *path, char head[HEAD_SIZE + 1]) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t size = fd < 0 ? 0 : read(fd, head, HEAD_SIZE);
    if (fd >= 0) close(fd);
    head[size > 0 ? size : 0] = '\0';
    return interpreter_of(head, size > 0 ? (size_t)size : 0);
}
