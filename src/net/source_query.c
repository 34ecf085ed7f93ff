/*
 * source_query.c
 *	  Addresses and queries of the metric source, as they go over the wire.
 *
 * Names of services are data: whatever they contain, they are quoted so that
 * PromQL reads them back as they are.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "net/metric_source.h"
#include "net/source_query.h"
#include "pg/settings.h"

void
sba_require_endpoint(void)
{
	if (sba_vm_endpoint == NULL || sba_vm_endpoint[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no metric source is configured"),
				 errhint("Set smartbox_anomaly.vm_endpoint to the address of VictoriaMetrics, for example \"http://127.0.0.1:8428\".")));
}

SbaHttpEndpoint *
sba_source_endpoint(void)
{
	return sba_endpoint_at(sba_vm_endpoint);
}

SbaHttpEndpoint *
sba_endpoint_at(const char *address)
{
	SbaHttpEndpoint *endpoint = palloc0(sizeof(SbaHttpEndpoint));
	int			length = strlen(address);
	const char *host;

	while (length > 0 && address[length - 1] == '/')
		length--;
	endpoint->what = "the metric source";
	endpoint->settings = "smartbox_anomaly.vm_";
	endpoint->address = pnstrdup(address, length);
	host = strstr(endpoint->address, "://") + 3;
	endpoint->host = pnstrdup(host, strcspn(host, "/"));
	endpoint->ca_file = sba_vm_ca_file;
	endpoint->certificate_file = sba_vm_certificate_file;
	endpoint->key_file = sba_vm_key_file;
	endpoint->bearer_token_file = sba_vm_bearer_token_file;
	endpoint->user = sba_vm_user;
	endpoint->password_file = sba_vm_password_file;
	endpoint->proxy = sba_vm_proxy;
	endpoint->connect_timeout_ms = sba_vm_connect_timeout_ms;
	endpoint->timeout_ms = sba_vm_timeout_ms;
	endpoint->total_timeout_ms = sba_vm_total_timeout_ms;
	endpoint->max_retries = sba_vm_max_retries;
	endpoint->has_breaker = true;
	return endpoint;
}

char	   *
sba_endpoint_url(const SbaHttpEndpoint *endpoint, const char *path)
{
	return psprintf("%s%s", endpoint->address, path);
}

void
sba_append_encoded(StringInfo form, const char *text)
{
	const char *c = pg_server_to_any(text, strlen(text), PG_UTF8);

	for (; *c != '\0'; c++)
	{
		if (isalnum((unsigned char) *c) && !IS_HIGHBIT_SET(*c))
			appendStringInfoChar(form, *c);
		else if (strchr("-._~", *c) != NULL)
			appendStringInfoChar(form, *c);
		else
			appendStringInfo(form, "%%%02X", (unsigned char) *c);
	}
}

/* Append a text as a quoted string of PromQL. */
static void
append_quoted(StringInfo query, const char *text)
{
	appendStringInfoChar(query, '"');
	for (; *text != '\0'; text++)
	{
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			appendStringInfo(query, "\\%c", c);
		else if (c == '\n')
			appendStringInfoString(query, "\\n");
		else if (c < 0x20 || c == 0x7F)
			appendStringInfo(query, "\\x%02x", c);
		else
			appendStringInfoChar(query, c);
	}
	appendStringInfoChar(query, '"');
}

/* Append the matcher for the given services, or for series that have any. */
static void
append_service_matcher(StringInfo selector, const char **services, int n_services)
{
	StringInfoData pattern;
	const char *c;
	int			i;

	appendStringInfoString(selector, sba_service_label);
	if (services == NULL)
	{
		appendStringInfoString(selector, "!=\"\"");
		return;
	}
	if (n_services == 1)
	{
		appendStringInfoChar(selector, '=');
		append_quoted(selector, services[0]);
		return;
	}
	initStringInfo(&pattern);
	for (i = 0; i < n_services; i++)
	{
		if (i > 0)
			appendStringInfoChar(&pattern, '|');
		for (c = services[i]; *c != '\0'; c++)
		{
			if (strchr("\\.+*?()|[]{}^$", *c) != NULL)
				appendStringInfoChar(&pattern, '\\');
			appendStringInfoChar(&pattern, *c);
		}
	}
	appendStringInfoString(selector, "=~");
	append_quoted(selector, pattern.data);
	pfree(pattern.data);
}

/*
 * The label matchers that $selector stands for.  There is always one, so
 * that a template may go on after $selector with a comma.
 */
static char *
make_selector(const char **services, int n_services)
{
	StringInfoData selector;

	initStringInfo(&selector);
	if (sba_environment != NULL && sba_environment[0] != '\0')
	{
		appendStringInfoString(&selector, "deployment_environment_name=~");
		append_quoted(&selector, sba_environment);
		appendStringInfoChar(&selector, ',');
	}
	if (sba_extra_selector != NULL && sba_extra_selector[0] != '\0')
		appendStringInfo(&selector, "%s,", sba_extra_selector);
	append_service_matcher(&selector, services, n_services);
	return selector.data;
}

/* Whether the text at c is the given variable, and not a longer name. */
static bool
is_variable(const char *c, const char *name)
{
	size_t		length = strlen(name);

	return strncmp(c, name, length) == 0 &&
		!isalnum((unsigned char) c[length]) && c[length] != '_';
}

char	   *
sba_expand_query(const char *query, const char **services, int n_services)
{
	char	   *selector = make_selector(services, n_services);
	StringInfoData expanded;
	const char *c = query;

	initStringInfo(&expanded);
	while (*c != '\0')
	{
		if (is_variable(c, "$selector"))
		{
			appendStringInfoString(&expanded, selector);
			c += strlen("$selector");
		}
		else if (is_variable(c, "$window"))
		{
			appendStringInfoString(&expanded, sba_rate_window);
			c += strlen("$window");
		}
		else if (is_variable(c, "$service_label"))
		{
			appendStringInfoString(&expanded, sba_service_label);
			c += strlen("$service_label");
		}
		else
			appendStringInfoChar(&expanded, *c++);
	}
	pfree(selector);
	return expanded.data;
}
