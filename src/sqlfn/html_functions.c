/*
 * html_functions.c
 *	  smartbox.html_text().
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/html_text.h"
#include "pg/compat.h"

SBA_FUNCTION(sba_html_text);

/*
 * html_text(of_text text) returns text
 */
Datum
sba_html_text(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	char	   *utf8 = VARDATA_ANY(given);
	size_t		length = VARSIZE_ANY_EXHDR(given);
	text	   *result;

	/* of SQL_ASCII nobody knows what the bytes mean */
	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII && length > 0)
	{
		utf8 = pg_server_to_any(utf8, (int) length, PG_UTF8);
		if (utf8 != VARDATA_ANY(given))
			length = strlen(utf8);
	}
	if (length > (MaxAllocSize - VARHDRSZ) / SBA_HTML_GROWTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text of %zu bytes is too long for a page", length)));
	result = palloc(VARHDRSZ + SBA_HTML_GROWTH * length);
	SET_VARSIZE(result, VARHDRSZ + sba_write_html_text(utf8, length, VARDATA(result)));
	PG_RETURN_TEXT_P(result);
}
