/* SPDX-License-Identifier: Apache-2.0 */
#include "header_config.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    char *at;
    const char *error; /* the first one */
};

static bool fail(struct parser *parser, const char *error)
{
    if (parser->error == NULL) {
        parser->error = error;
    }
    return false;
}

static bool accept(struct parser *parser, char wanted)
{
    parser->at += strspn(parser->at, " \t\r\n");
    if (*parser->at != wanted) {
        return false;
    }
    parser->at++;
    return true;
}

static bool expect(struct parser *parser, char wanted, const char *error)
{
    return accept(parser, wanted) || fail(parser, error);
}

/* The characters are moved down over the escapes, and a NUL takes the place of the closing quote. */
static bool parse_string(struct parser *parser, const char **string)
{
    if (!expect(parser, '"', "expected a string")) {
        return false;
    }
    char *to = parser->at;
    *string = to;
    for (;;) {
        char byte = *parser->at++;
        if (byte == '"') {
            *to = '\0';
            return true;
        }
        if (byte == '\\') {
            byte = *parser->at++;
            if (byte == '\0' || strchr("\"\\/", byte) == NULL) {
                return fail(parser, "only the escapes \\\" \\\\ and \\/ are known");
            }
        }
        /* NUL too, which is the end of the text. A line break would let a value become another header. */
        if ((unsigned char)byte < 0x20 || byte == 0x7f) {
            return fail(parser, "a string has a control character or no end");
        }
        *to++ = byte;
    }
}

static bool is_header_name(const char *name)
{
    const char *known = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    return *name != '\0' && name[strspn(name, known)] == '\0';
}

/* One member of an object, given its name. */
typedef bool parse_member(struct parser *parser, const char *name, void *data);

static bool parse_object(struct parser *parser, parse_member *member, void *data)
{
    if (!expect(parser, '{', "expected an object")) {
        return false;
    }
    if (accept(parser, '}')) {
        return true;
    }
    do {
        const char *name;
        if (!parse_string(parser, &name) || !expect(parser, ':', "expected ':'") ||
            !member(parser, name, data)) {
            return false;
        }
    } while (accept(parser, ','));
    return expect(parser, '}', "expected ',' or '}'");
}

static bool parse_header(struct parser *parser, const char *name, void *data)
{
    struct header **list = data;
    const char *value;
    if (!is_header_name(name)) {
        return fail(parser, "not a header name");
    }
    if (!parse_string(parser, &value)) {
        return false;
    }
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = calloc(1, sizeof(**list));
    if (*list == NULL) {
        return fail(parser, "out of memory");
    }
    (*list)->name = name;
    (*list)->value = value;
    return true;
}

static bool parse_section(struct parser *parser, const char *name, void *data)
{
    struct header_config *config = data;
    if (strcmp(name, "request") == 0) {
        return parse_object(parser, parse_header, &config->request);
    }
    if (strcmp(name, "response") == 0) {
        return parse_object(parser, parse_header, &config->response);
    }
    return fail(parser, "the fields are \"request\" and \"response\"");
}

static void free_headers(struct header *header)
{
    while (header != NULL) {
        struct header *next = header->next;
        free(header);
        header = next;
    }
}

void header_config_clear(struct header_config *config)
{
    free_headers(config->request);
    free_headers(config->response);
    config->request = config->response = NULL;
}

const char *header_config_parse(char *text, struct header_config *config)
{
    struct parser parser = {text, NULL};
    if (!parse_object(&parser, parse_section, config) ||
        !expect(&parser, '\0', "something follows the object")) {
        header_config_clear(config);
    }
    return parser.error;
}
