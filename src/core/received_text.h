/*
 * received_text.h
 *	  Numbers and texts as they come over the network.
 */
#ifndef SBA_CORE_RECEIVED_TEXT_H
#define SBA_CORE_RECEIVED_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether the text is strict UTF-8 without zero bytes: no overlong forms, no
 * surrogates, nothing beyond U+10FFFF.
 */
extern bool sba_is_clean_text(const char *text, size_t length);

/*
 * Read a number as Prometheus and VictoriaMetrics write it: decimal, with or
 * without an exponent, up to 1024 characters, or NaN, Inf, +Inf, -Inf.  The
 * result is correctly rounded; what is out of range becomes infinite.  Returns
 * false for anything else, hexadecimal numbers and white space included.
 *
 * Long numbers go through strtod, which follows LC_NUMERIC.  PostgreSQL keeps
 * that at "C" in every process; other callers have to do the same.
 */
extern bool sba_parse_number(const char *text, size_t length, double *value);

#endif							/* SBA_CORE_RECEIVED_TEXT_H */
