/*
 * json_writer.h
 *	  Writing JSON text piece by piece.
 */
#ifndef SBA_PG_JSON_WRITER_H
#define SBA_PG_JSON_WRITER_H

#include "lib/stringinfo.h"

typedef struct SbaJsonWriter
{
	StringInfoData text;
	bool		needs_comma;
} SbaJsonWriter;

extern void sba_json_init(SbaJsonWriter *writer);

/* '{' or '['; as a member of an object when key is not NULL. */
extern void sba_json_open(SbaJsonWriter *writer, const char *key, char bracket);
extern void sba_json_close(SbaJsonWriter *writer, char bracket);

/* Members of an object, or elements of an array when key is NULL. */
extern void sba_json_string(SbaJsonWriter *writer, const char *key, const char *value);

/* Six significant digits; null when not finite. */
extern void sba_json_number(SbaJsonWriter *writer, const char *key, double value);
extern void sba_json_integer(SbaJsonWriter *writer, const char *key, int64 value);
extern void sba_json_boolean(SbaJsonWriter *writer, const char *key, bool value);
extern void sba_json_null(SbaJsonWriter *writer, const char *key);

/* The text as a jsonb value. */
extern Datum sba_json_to_jsonb(const SbaJsonWriter *writer);

#endif							/* SBA_PG_JSON_WRITER_H */
