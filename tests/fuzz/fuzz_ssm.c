/* The answers of ssm:StartSession, ResumeSession and GetConnectionStatus, whatever the status. */
#include "aws/ssm.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ssm_session session;
    static char token[SSMMESSAGES_TOKEN_SIZE];
    static const int statuses[] = {200, 400, 403, 500};
    if (size == 0)
        return 0;
    struct api_answer answer = {.status = statuses[data[0] % 4], .body = {(const char *) data + 1, size - 1}};
    struct error err = ERROR_INIT;
    bool flag;
    bool is_whole = ssm_read_start_session(&session, &answer, NULL, &err) == API_OK;
    if (is_whole != (session.id[0] != '\0' && session.stream_url[0] != '\0' && session.token[0] != '\0'))
        abort();
    if (is_whole == (err.code != ERROR_NONE) || strchr(session.id, '/') != NULL)
        abort();
    err = (struct error) ERROR_INIT;
    enum api_class class = ssm_read_resume_session(token, &flag, &answer, NULL, &err);
    if ((class == API_OK) != (token[0] != '\0') || (flag && class != API_FAILED))
        abort();
    ssm_read_get_connection_status(&flag, &answer, NULL, NULL);
    ssm_read_terminate_session(&answer, NULL, NULL);
    return 0;
}
