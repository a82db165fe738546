#define _GNU_SOURCE
#include "kernel_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool read_kernel_file(int folder, const char *path, char *text, size_t size) {
    int fd = openat(folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

long long find_number(const char *text, const char *key) {
    size_t length = key == NULL ? 0 : strlen(key);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (length && (strncmp(line, key, length) != 0 || line[length] != ' ')) continue;
        const char *number = line + length + (length > 0);
        char *end;
        long long value = strtoll(number, &end, 10);
        return end != number && (*end == '\n' || *end == '\0') ? value : -1;
    }
    return -1;
}

long long read_kernel_number(int folder, const char *path, const char *key) {
    char text[4096];
    read_kernel_file(folder, path, text, sizeof text);
    return find_number(text, key);
}
