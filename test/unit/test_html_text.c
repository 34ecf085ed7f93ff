/*
 * test_html_text.c
 *	  Whatever a text holds, in a page it is text.
 */
#include "core/html_text.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

static void
is_written(const char *text, size_t length, const char *expected, const char *name)
{
	char	   *html = malloc(SBA_HTML_GROWTH * length + 1);
	size_t		written = sba_write_html_text(text, length, html);

	html[written] = '\0';
	ok(strcmp(html, expected) == 0, "%s: %s", name, html);
	free(html);
}

static void
is_html(const char *text, const char *expected, const char *name)
{
	is_written(text, strlen(text), expected, name);
}

/* Every code point once: ASCII comes out, and nothing that opens a tag. */
static void
test_all_characters(void)
{
	bool		is_safe = true;
	bool		has_room = true;
	uint32_t	code;

	for (code = 1; code <= 0x10FFFF; code++)
	{
		char		text[4];
		char		html[4 * SBA_HTML_GROWTH];
		size_t		length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
		size_t		written;
		size_t		i;

		text[0] = (char) (length == 1 ? code : (0xF00u >> length) | (code >> 6 * (length - 1)));
		for (i = 1; i < length; i++)
			text[i] = (char) (0x80 | ((code >> 6 * (length - 1 - i)) & 0x3F));
		written = sba_write_html_text(text, length, html);
		has_room &= written <= SBA_HTML_GROWTH * length;
		for (i = 0; i < written; i++)
			is_safe &= (unsigned char) html[i] < 0x7F && strchr("<>\"'", html[i]) == NULL &&
				(html[i] >= ' ' || html[i] == '\n' || html[i] == '\t' || html[i] == '\r');
	}
	ok(is_safe, "no character becomes anything but safe ASCII");
	ok(has_room, "or more than there is room for");
}

int
main(void)
{
	plan_tests(0);
	is_html("", "", "nothing");
	is_html("booking, 12 ms (a-b_c)", "booking, 12 ms (a-b_c)", "plain text");
	is_html("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;", "a script");
	is_html("\" onload='x' a=&amp;", "&quot; onload=&#39;x&#39; a=&amp;amp;", "an attribute");
	is_html("two\nlines\tand\r\n", "two\nlines\tand\r\n", "white space");
	is_html("a\001b\033[31mc\177", "a&#65533;b&#65533;[31mc&#65533;", "controls");
	is_html("h\303\251l\303\250ne \342\202\254 \360\237\232\222", "h&#233;l&#232;ne &#8364; &#128658;", "UTF-8 of two to four bytes");
	is_html("a\342\200\256b\342\201\246c", "a&#65533;b&#65533;c", "what turns text around");
	is_html("\303", "&#65533;", "a character that is cut off");
	is_html("\303<b>", "&#65533;&lt;b&gt;", "and takes nothing with it");
	is_html("\300\274script", "&#65533;&#65533;script", "an overlong form of what opens a tag");
	is_html("\355\240\200", "&#65533;&#65533;&#65533;", "a surrogate");
	is_html("\364\220\200\200x\200", "&#65533;&#65533;&#65533;&#65533;x&#65533;", "beyond Unicode");
	is_written("a\0b", 3, "a&#65533;b", "a zero byte");
	test_all_characters();
	return done();
}
