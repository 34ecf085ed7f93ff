/*
 * readable_line.h
 *	  What another server says, as it may be shown.
 */
#ifndef SBA_NET_READABLE_LINE_H
#define SBA_NET_READABLE_LINE_H

/*
 * The first line of a text that says something, without HTML tags and control
 * characters, not too long; palloc'ed.
 */
extern char *sba_readable_line(const char *text, size_t length);

#endif							/* SBA_NET_READABLE_LINE_H */
