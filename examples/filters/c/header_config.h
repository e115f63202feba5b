/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration of add-headers: {"request":{NAME:VALUE,...},"response":{NAME:VALUE,...}}. Of JSON this
 * reads just that shape, and in strings just the escapes \" \\ and \/ .
 */
#ifndef HEADER_CONFIG_H
#define HEADER_CONFIG_H

struct header {
    const char *name, *value;
    struct header *next;
};

struct header_config {
    struct header *request, *response;
};

/* Reads `text`, which ends in a NUL, and cuts it up: the result points into it. Returns NULL, or what is
 * wrong, with nothing left in `config`. */
const char *header_config_parse(char *text, struct header_config *config);

void header_config_clear(struct header_config *config);

#endif
