/*
 * json_writer.c
 *	  Writing JSON text piece by piece.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "pg/json_writer.h"

void
sba_json_init(SbaJsonWriter *writer)
{
	initStringInfo(&writer->text);
	writer->needs_comma = false;
}

static void
begin_item(SbaJsonWriter *writer, const char *key)
{
	if (writer->needs_comma)
		appendStringInfoString(&writer->text, ", ");
	if (key != NULL)
	{
		escape_json(&writer->text, key);
		appendStringInfoString(&writer->text, ": ");
	}
	writer->needs_comma = true;
}

void
sba_json_open(SbaJsonWriter *writer, const char *key, char bracket)
{
	begin_item(writer, key);
	appendStringInfoChar(&writer->text, bracket);
	writer->needs_comma = false;
}

void
sba_json_close(SbaJsonWriter *writer, char bracket)
{
	appendStringInfoChar(&writer->text, bracket);
	writer->needs_comma = true;
}

void
sba_json_string(SbaJsonWriter *writer, const char *key, const char *value)
{
	begin_item(writer, key);
	escape_json(&writer->text, value);
}

void
sba_json_number(SbaJsonWriter *writer, const char *key, double value)
{
	if (!isfinite(value))
	{
		sba_json_null(writer, key);
		return;
	}
	begin_item(writer, key);
	appendStringInfo(&writer->text, "%.6g", value);
}

void
sba_json_integer(SbaJsonWriter *writer, const char *key, int64 value)
{
	begin_item(writer, key);
	appendStringInfo(&writer->text, INT64_FORMAT, value);
}

void
sba_json_boolean(SbaJsonWriter *writer, const char *key, bool value)
{
	begin_item(writer, key);
	appendStringInfoString(&writer->text, value ? "true" : "false");
}

void
sba_json_null(SbaJsonWriter *writer, const char *key)
{
	begin_item(writer, key);
	appendStringInfoString(&writer->text, "null");
}

Datum
sba_json_to_jsonb(const SbaJsonWriter *writer)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(writer->text.data));
}
