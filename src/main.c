#include <stdio.h>

int main(void)
{
    return puts("fumidai " FUMIDAI_VERSION) < 0;
}
