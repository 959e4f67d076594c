/* The smallest plugin that strfry can have: it finds the id of a line and accepts the event. */
#include <stdio.h>
#include <string.h>

int main(void) {
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin)) {
        const char *event = strstr(line, "\"event\":");
        const char *id = event ? strstr(event, "\"id\":\"") : NULL;
        printf("{\"id\":\"%.64s\",\"action\":\"accept\"}\n", id ? id + 6 : "");
        fflush(stdout);
    }
    return 0;
}
