/* text_file: a file with a text in it, for tests of what reads files. */
#ifndef FUMIDAI_TESTS_TEXT_FILE_H
#define FUMIDAI_TESTS_TEXT_FILE_H

enum { TEXT_FILE_PATH_SIZE = 64 };

/* Makes one under /tmp. Ends the program when it can't. */
void text_file_make(char path[TEXT_FILE_PATH_SIZE], const char *text);
/* Replaces its text. */
void text_file_write(const char *path, const char *text);
void text_file_remove(const char *path);

#endif
