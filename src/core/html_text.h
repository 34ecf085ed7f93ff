/*
 * html_text.h
 *	  Text of anybody's as text in a page of HTML, and nothing else.
 */
#ifndef SBA_CORE_HTML_TEXT_H
#define SBA_CORE_HTML_TEXT_H

#include <stddef.h>

/* Most bytes that one byte of text becomes. */
#define SBA_HTML_GROWTH 8

/*
 * Write UTF-8 text as ASCII that is safe between tags and in quoted attributes:
 * what has a meaning in HTML and what is not ASCII are references.  Characters
 * that show nothing, or turn what surrounds them around, and bytes that are no
 * UTF-8 become U+FFFD.  html has room for SBA_HTML_GROWTH * length bytes; no
 * zero ends it.  Returns its length.
 */
extern size_t sba_write_html_text(const char *text, size_t length, char *html);

#endif							/* SBA_CORE_HTML_TEXT_H */
