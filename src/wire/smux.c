#include "wire/smux.h"

#include <string.h>

#include "base/bytes.h"

enum { SMUX_VERSION = 1 };

void smux_decoder_init(struct smux_decoder *decoder, bool extended)
{
    memset(decoder, 0, sizeof *decoder);
    decoder->extended = extended;
}

static unsigned data_max(const struct smux_decoder *decoder, enum smux_command command)
{
    if (command == SMUX_PSH)
        return SMUX_DATA_MAX;
    return decoder->extended && command != SMUX_FIN && command != SMUX_NOP ? SMUX_TEXT_MAX : 0;
}

static int parse_header(struct smux_decoder *decoder, struct smux_event *event, struct error *err)
{
    struct reader r = reader_of(decoder->header, SMUX_HEADER_SIZE);
    unsigned version = reader_u8(&r);
    unsigned command = reader_u8(&r);
    unsigned length = reader_u16le(&r);
    uint32_t stream = reader_u32le(&r);
    decoder->header_len = 0;
    if (version != SMUX_VERSION)
        return decoder->failed = error_set(err, ERROR_INVALID, "smux: version %u, want 1", version);
    if (command > SMUX_NOP && !(decoder->extended && command >= SMUX_OPENED && command <= SMUX_REFUSED))
        return decoder->failed = error_set(err, ERROR_INVALID, "smux: unknown command %u", command);
    if (length > data_max(decoder, (enum smux_command) command))
        return decoder->failed =
                   error_set(err, ERROR_INVALID, "smux: %u bytes of data with command %u", length, command);
    decoder->command = (enum smux_command) command;
    decoder->stream = stream;
    decoder->data_left = length;
    event->type = SMUX_EVENT_FRAME;
    event->command = (enum smux_command) command;
    event->stream = stream;
    event->data_len = length;
    return 0;
}

int smux_decoder_next(struct smux_decoder *decoder, const void *input, size_t len, size_t *used,
                      struct smux_event *event, struct error *err)
{
    memset(event, 0, sizeof *event);
    *used = 0;
    if (decoder->failed != 0)
        return error_set(err, decoder->failed, "smux: the stream of frames was lost before");
    if (len == 0)
        return 0;
    if (decoder->data_left > 0) {
        *used = len < decoder->data_left ? len : decoder->data_left;
        decoder->data_left -= *used;
        event->type = SMUX_EVENT_DATA;
        event->command = decoder->command;
        event->stream = decoder->stream;
        event->data = input;
        event->data_len = *used;
        return 0;
    }
    *used = SMUX_HEADER_SIZE - decoder->header_len;
    if (*used > len)
        *used = len;
    memcpy(decoder->header + decoder->header_len, input, *used);
    decoder->header_len += *used;
    return decoder->header_len < SMUX_HEADER_SIZE ? 0 : parse_header(decoder, event, err);
}

void smux_write_header(uint8_t header[SMUX_HEADER_SIZE], enum smux_command command, uint32_t stream,
                       uint16_t data_len)
{
    struct writer w = writer_of(header, SMUX_HEADER_SIZE);
    writer_u8(&w, SMUX_VERSION);
    writer_u8(&w, (uint8_t) command);
    writer_u16le(&w, data_len);
    writer_u32le(&w, stream);
}
