/*
 * readable_line.c
 *	  What another server says, as it may be shown.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "net/readable_line.h"

/* The longest line of a server's text in a message. */
#define ERROR_LINE_BYTES	400

char	   *
sba_readable_line(const char *text, size_t length)
{
	StringInfoData line;
	bool		in_tag = false;
	bool		in_hidden = false;
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	size_t		i;

	initStringInfo(&line);
	for (i = 0; i < length && line.len < ERROR_LINE_BYTES; i++)
	{
		unsigned char c = text[i];
		bool		separates = c == '\n' || c == '\r';

		if (c == '<')
		{
			const char *tag = text + i + 1;

			in_tag = true;
			in_hidden = length - i > 6 &&
				(pg_strncasecmp(tag, "style", 5) == 0 ||
				 pg_strncasecmp(tag, "script", 5) == 0);
			separates = true;
		}
		if (separates && line.len > 0)
			break;
		if (c == '>' && in_tag)
			in_tag = false;
		else if (!in_tag && !in_hidden && c >= 0x20 && c != 0x7F && (c != ' ' || line.len > 0))
			appendStringInfoChar(&line, (utf8 || c < 0x80) ? c : '?');
	}
	while (line.len > 0 && line.data[line.len - 1] == ' ')
		line.data[--line.len] = '\0';
	if (utf8 && !pg_verify_mbstr(PG_UTF8, line.data, line.len, true))
		line.data[pg_encoding_verifymbstr(PG_UTF8, line.data, line.len)] = '\0';
	return line.data;
}
