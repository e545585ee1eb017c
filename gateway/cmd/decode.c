/* decode.c - `cellgate decode`: shows what frames say, or why they are refused.
 * docs/contract.md section 8. Memory is bounded whatever the input. */
#include "ingress/decode.h"
#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "cmd/cmd.h"
#include "event/json_write.h"
#include "ingress/frame.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

enum {
    FRAME_BYTES_MAX = CG_FRAME_PREFIX_BYTES + CG_FRAME_BODY_BYTES_MAX,
    /* Two texts of one body, each byte escaped to six, and the members around them. */
    OUTPUT_BYTES_MAX = CG_JSON_ESCAPE_GROWTH * CG_FRAME_BODY_BYTES_MAX + 1024,
};

static const char help[] =
    "usage: cellgate decode [--frames]\n"
    "Shows what frames say, or why they are refused: a JSON object per line.\n"
    "\n"
    "Without options, reads the body of a frame in hexadecimal per line; an empty\n"
    "line is an empty body.\n"
    "\n"
    "  --frames  read raw bytes as a guest sends them, each body behind its length\n"
    "            (u32, little-endian); ends with the first refusal\n"
    "  --help    show this\n"
    "\n"
    "Exits with 1 if any frame was refused.\n";

/* One line of hexadecimal, as far as it has come. */
struct hex_line {
    uint8_t body[CG_FRAME_BODY_BYTES_MAX];
    size_t digits;   /* may pass what fits into the body; those are only counted */
    bool begun;      /* has any character */
    bool not_hex;    /* has one that is no digit */
    bool ends_in_cr; /* forgiven if the line ends behind it */
};

struct decoder {
    struct cg_decode_scratch scratch;
    struct hex_line hex;
    char input[FRAME_BYTES_MAX];
    struct cg_buf line; /* of output */
    bool refused;       /* anything so far */
    bool failed;        /* to write, or for want of memory */
};

static void print_line(struct decoder *decoder)
{
    cg_buf_append_char(&decoder->line, '\n');
    if (decoder->line.failed ||
        fwrite(decoder->line.data, 1, decoder->line.len, stdout) != decoder->line.len) {
        decoder->failed = true;
    }
}

static void print_refusal(struct decoder *decoder, enum cg_refusal refusal, const char *name,
                          const char *why)
{
    struct cg_buf *line = &decoder->line;
    cg_buf_clear(line);
    cg_buf_printf(line, "{\"accept\":false,\"error_class\":\"%s\",\"error\":\"%s%s%s\"}",
                  refusal == CG_REFUSAL_UNSUPPORTED_VERSION ? cg_refusal_name(refusal) : "wire",
                  name, *name == '\0' ? "" : ": ", why);
    print_line(decoder);
    decoder->refused = true;
}

static void print_bad_length(struct decoder *decoder)
{
    print_refusal(decoder, CG_REFUSAL_LENGTH, cg_refusal_name(CG_REFUSAL_LENGTH),
                  "a body has 1 to 65536 bytes");
}

static void print_declaration(struct decoder *decoder, const struct cg_declaration *declaration)
{
    struct cg_buf *line = &decoder->line;
    cg_buf_clear(line);
    cg_buf_append_str(line, "{\"accept\":true,\"guest\":{\"content_version\":");
    cg_buf_append_u64(line, declaration->content_version);
    cg_buf_append_str(line, ",\"probe_source\":");
    cg_json_append_string(line, declaration->probe_source);
    cg_buf_append_str(line, ",\"guest_pid\":");
    cg_buf_append_u64(line, declaration->guest_pid);
    cg_buf_append_str(line, ",\"guest_comm\":");
    cg_json_append_string(line, declaration->guest_comm);
    cg_buf_append_str(line, ",\"guest_monotonic_ns\":");
    cg_buf_append_u64(line, declaration->guest_monotonic_ns);
    cg_buf_append_str(line, "}}");
    print_line(decoder);
}

static void decode_body(struct decoder *decoder, struct cg_bytes body)
{
    struct cg_declaration declaration;
    const char *why;
    enum cg_refusal refusal = cg_decode(body, &decoder->scratch, &declaration, &why);
    if (refusal == CG_REFUSAL_NONE) {
        print_declaration(decoder, &declaration);
    } else {
        print_refusal(decoder, refusal, cg_refusal_name(refusal), why);
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void add_to_line(struct hex_line *line, uint8_t c)
{
    line->begun = true;
    int value = hex_value(c);
    if (value < 0 || line->ends_in_cr) {
        line->not_hex |= c != '\r' || line->ends_in_cr;
        line->ends_in_cr = c == '\r';
        return;
    }
    size_t at = line->digits / 2;
    if (at < sizeof(line->body)) {
        line->body[at] = (uint8_t)(line->digits % 2 == 0 ? value << 4 : line->body[at] | value);
    }
    line->digits++;
}

static void end_line(struct decoder *decoder)
{
    struct hex_line *line = &decoder->hex;
    size_t length = line->digits / 2;
    if (line->not_hex || line->digits % 2 != 0) {
        print_refusal(decoder, CG_REFUSAL_MALFORMED, "", "not hexadecimal");
    } else if (length == 0 || length > sizeof(line->body)) {
        print_bad_length(decoder);
    } else {
        decode_body(decoder, cg_bytes(line->body, length));
    }
    line->digits = 0;
    line->begun = line->not_hex = line->ends_in_cr = false;
}

/* Returns how many bytes came, 0 at the end, -1 after having said what failed. What was printed so
 * far goes out first, since the next input may be long in coming. */
static ssize_t read_input(void *buffer, size_t max)
{
    (void)fflush(stdout);
    ssize_t got;
    do {
        got = read(STDIN_FILENO, buffer, max);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        perror("cellgate decode: cannot read the input");
    }
    return got;
}

static bool decode_lines(struct decoder *decoder)
{
    ssize_t got = 0;
    while (!decoder->failed && (got = read_input(decoder->input, sizeof(decoder->input))) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (decoder->input[i] == '\n') {
                end_line(decoder);
            } else {
                add_to_line(&decoder->hex, (uint8_t)decoder->input[i]);
            }
        }
    }
    if (decoder->hex.begun) {
        end_line(decoder);
    }
    return got == 0;
}

/* Decodes the whole frames at the front of `stream`. Returns how many bytes they took; stops at the
 * first refusal. */
static size_t decode_whole_frames(struct decoder *decoder, struct cg_bytes stream)
{
    size_t taken = 0;
    while (!decoder->refused && !decoder->failed) {
        struct cg_bytes body;
        size_t needed;
        switch (cg_frame_next(cg_bytes(stream.data + taken, stream.len - taken), &body, &needed)) {
        case CG_FRAME_WHOLE:
            decode_body(decoder, body);
            taken += CG_FRAME_PREFIX_BYTES + body.len;
            break;
        case CG_FRAME_PARTIAL:
            return taken;
        case CG_FRAME_BAD_LENGTH:
            print_bad_length(decoder);
            break;
        }
    }
    return taken;
}

static bool decode_frames(struct decoder *decoder)
{
    char *stream = decoder->input;
    size_t have = 0;
    ssize_t got = 0;
    /* Less than one frame is left over each time, so that there is always room to read into. */
    while (!decoder->refused && !decoder->failed &&
           (got = read_input(stream + have, FRAME_BYTES_MAX - have)) > 0) {
        have += (size_t)got;
        size_t taken = decode_whole_frames(decoder, cg_bytes(stream, have));
        memmove(stream, stream + taken, have - taken);
        have -= taken;
    }
    if (got == 0 && have > 0 && !decoder->refused) {
        print_refusal(decoder, CG_REFUSAL_TRUNCATED, cg_refusal_name(CG_REFUSAL_TRUNCATED),
                      "the stream ends inside a frame");
    }
    return got >= 0;
}

int cg_cmd_decode(int argc, char **argv)
{
    static const struct option options[] = {
        {"frames", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool frames = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(help, stdout);
            return CG_EXIT_OK;
        }
        if (option != 'f') {
            (void)fputs(help, stderr);
            return CG_EXIT_USAGE;
        }
        frames = true;
    }
    if (optind < argc) {
        (void)fprintf(stderr, "cellgate decode: reads standard input, and takes no '%s'\n",
                      argv[optind]);
        return CG_EXIT_USAGE;
    }
    cg_auto_free struct decoder *decoder = calloc(1, sizeof(*decoder));
    if (decoder == NULL) {
        perror("cellgate decode");
        return CG_EXIT_FAILED;
    }
    cg_buf_init(&decoder->line, OUTPUT_BYTES_MAX);
    bool read_all = frames ? decode_frames(decoder) : decode_lines(decoder);
    cg_buf_fini(&decoder->line);
    if (fflush(stdout) != 0 || decoder->failed) {
        (void)fputs("cellgate decode: cannot write the output\n", stderr);
        return CG_EXIT_FAILED;
    }
    return read_all && !decoder->refused ? CG_EXIT_OK : CG_EXIT_FAILED;
}
