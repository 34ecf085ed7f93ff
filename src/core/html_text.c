/*
 * html_text.c
 *	  Text of anybody's as text in a page of HTML, and nothing else.
 *
 * The result is ASCII, so that a page is the same in every encoding that it may
 * be carried or served in.
 */
#include "core/html_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/received_text.h"

#define REPLACEMENT_CHARACTER 0xFFFD

/* Room for a reference to any number, and its end. */
#define REFERENCE_SIZE 16

typedef struct CodeRange
{
	uint32_t	first;
	uint32_t	last;
} CodeRange;

/*
 * Controls other than tab and the ends of lines; marks, embeddings, overrides and
 * isolates of the bidirectional algorithm; separators of lines and paragraphs,
 * shift of interlinear notes, tags; and the byte order mark.
 */
static const CodeRange unwanted[] = {
	{0x00, 0x08}, {0x0B, 0x0C}, {0x0E, 0x1F}, {0x7F, 0x9F}, {0x61C, 0x61C}, {0x200B, 0x200B},
	{0x200E, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB},
	{0xFFFE, 0xFFFF}, {0xE0000, 0xE0FFF},
};

static bool
is_unwanted(uint32_t code)
{
	size_t		i;

	for (i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		if (code >= unwanted[i].first && code <= unwanted[i].last)
			return true;
	return false;
}

/* Bytes that a sequence has by its first one. */
static size_t
sequence_length(unsigned char first)
{
	return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Read one character; false when its first byte begins none. */
static bool
read_character(const char *text, size_t length, uint32_t *code, size_t *used)
{
	size_t		i;

	*used = sequence_length((unsigned char) text[0]);
	*code = (unsigned char) text[0];
	if (*used == 1)
		return true;
	if (*used > length || !sba_is_clean_text(text, *used))
		return false;
	*code &= 0xFFu >> (*used + 1);
	for (i = 1; i < *used; i++)
		*code = *code << 6 | ((unsigned char) text[i] & 0x3F);
	return true;
}

static const char *
named_reference(uint32_t code)
{
	switch (code)
	{
		case '&':
			return "&amp;";
		case '<':
			return "&lt;";
		case '>':
			return "&gt;";
		case '"':
			return "&quot;";
		case '\'':
			return "&#39;";
		default:
			return NULL;
	}
}

size_t
sba_write_html_text(const char *text, size_t length, char *html)
{
	char	   *out = html;
	size_t		at = 0;

	while (at < length)
	{
		char		reference[REFERENCE_SIZE];
		const char *written;
		uint32_t	code;
		size_t		used;

		if (!read_character(text + at, length - at, &code, &used))
		{
			code = REPLACEMENT_CHARACTER;
			used = 1;
		}
		else if (is_unwanted(code))
			code = REPLACEMENT_CHARACTER;
		at += used;
		written = named_reference(code);
		if (written == NULL && code < 0x80)
		{
			*out++ = (char) code;
			continue;
		}
		if (written == NULL)
		{
			snprintf(reference, sizeof(reference), "&#%u;", code);
			written = reference;
		}
		while (*written != '\0')
			*out++ = *written++;
	}
	return (size_t) (out - html);
}
