#include "lib/text_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_all(int fd, const char *path, const char *text)
{
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text)) {
        perror(path);
        exit(1);
    }
    close(fd);
}

void text_file_make(char path[TEXT_FILE_PATH_SIZE], const char *text)
{
    snprintf(path, TEXT_FILE_PATH_SIZE, "/tmp/fumidai-test-XXXXXX");
    write_all(mkstemp(path), path, text);
}

void text_file_write(const char *path, const char *text)
{
    write_all(open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), path, text);
}

void text_file_remove(const char *path)
{
    unlink(path);
}
