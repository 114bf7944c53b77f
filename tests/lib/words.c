#include "lib/words.h"

#include <stdlib.h>
#include <string.h>

static void append(struct words *words, char *word)
{
    if (words->count == WORDS_MAX)
        abort();
    words->list[words->count++] = word;
}

char **words_split(struct words *words, char *first, const char *text)
{
    words->count = 0;
    if (first != NULL)
        append(words, first);
    if (strlen(text) >= sizeof words->text)
        abort();
    strcpy(words->text, text);
    for (char *word = text[0] != '\0' ? words->text : NULL; word != NULL;) {
        char *bar = strchr(word, '|');
        if (bar != NULL)
            *bar++ = '\0';
        append(words, word);
        word = bar;
    }
    words->list[words->count] = NULL;
    return words->list;
}
