/* SPDX-License-Identifier: Apache-2.0 */
#include "script.h"

static bool is_name(char byte)
{
    return (byte >= 'a' && byte <= 'z') || byte == '_';
}

/* The length up to a `;` that is in no string. A quote that is not closed ends with the script. */
static size_t statement_size(struct span script)
{
    char quote = '\0';
    size_t size = 0;
    for (; size < script.size; size++) {
        char byte = script.at[size];
        if (quote != '\0') {
            quote = byte == quote ? '\0' : quote;
        } else if (byte == '\'' || byte == '"') {
            quote = byte;
        } else if (byte == ';') {
            break;
        }
    }
    return size;
}

static void take_section(struct statement *statement)
{
    struct span text = statement->text;
    size_t name = 0;
    while (name < text.size && is_name(text.at[name])) {
        name++;
    }
    size_t colon = name;
    while (colon < text.size && is_space(text.at[colon])) {
        colon++;
    }
    if (name > 0 && colon < text.size && text.at[colon] == ':') {
        statement->section = (struct span){text.at, name};
        statement->text = span_trim((struct span){text.at + colon + 1, text.size - colon - 1});
    }
}

bool script_next(struct span *script, struct statement *statement)
{
    while (script->size > 0) {
        size_t size = statement_size(*script);
        statement->text = span_trim((struct span){script->at, size});
        size_t taken = size < script->size ? size + 1 : size;
        script->at += taken, script->size -= taken;
        take_section(statement);
        if (statement->text.size > 0) {
            return true;
        }
    }
    return false;
}

struct span script_text_of(struct span script, const char *section)
{
    struct statement statement = {{NULL, 0}, {NULL, 0}};
    while (script_next(&script, &statement)) {
        if (span_is(statement.section, section)) {
            return statement.text;
        }
    }
    return (struct span){NULL, 0};
}

struct span script_word(struct span *statement)
{
    *statement = span_trim(*statement);
    struct span word = {statement->at, 0};
    while (statement->size > 0 && !is_space(statement->at[0])) {
        word.size++;
        statement->at++, statement->size--;
    }
    return word;
}

bool script_number(struct span word, uint64_t *number, bool *negative)
{
    *negative = word.size > 0 && word.at[0] == '-';
    if (*negative) {
        word.at++, word.size--;
    }
    unsigned base = 10;
    if (word.size > 2 && word.at[0] == '0' && (word.at[1] == 'x' || word.at[1] == 'X')) {
        base = 16;
        word.at += 2, word.size -= 2;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < word.size; i++) {
        int digit = hex_value(word.at[i]);
        if (digit < 0 || (unsigned)digit >= base || value > (UINT64_MAX - (unsigned)digit) / base) {
            return false;
        }
        value = value * base + (unsigned)digit;
    }
    *number = *negative ? -value : value;
    return word.size > 0 && (!*negative || value <= (uint64_t)1 << 63);
}

bool script_unescape(struct span string, char *bytes, size_t *size)
{
    *size = 0;
    for (size_t i = 0; i < string.size; i++) {
        char byte = string.at[i];
        if (byte == '%') {
            bool whole = string.size - i > 2;
            int high = whole ? hex_value(string.at[i + 1]) : -1;
            int low = whole ? hex_value(string.at[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            byte = (char)(high << 4 | low);
            i += 2;
        }
        bytes[(*size)++] = byte;
    }
    return true;
}
