/*
 * words: an argv or an environment out of one string, for tests of what people give on a command line.
 */
#ifndef FUMIDAI_TESTS_WORDS_H
#define FUMIDAI_TESTS_WORDS_H

enum { WORDS_MAX = 80, WORDS_TEXT_SIZE = 2048 };

struct words {
    char *list[WORDS_MAX + 1]; /* ends in a null pointer */
    int count;
    char text[WORDS_TEXT_SIZE];
};

/* Words stand apart by '|', so that blanks and nothing can be words too; the empty text has none. `first` is
 * put in front, if it is not null. A text that is too long, or has too many words, ends the program. */
char **words_split(struct words *words, char *first, const char *text);

#endif
