/*
 * test_promql_names.c
 *	  Which words of a query are names of metrics and labels.
 */
#include <string.h>

#include "core/promql_names.h"

#include "tap.h"

static char found[1000];

/* Write names down: metrics as they are, labels with a dot before. */
static bool
note(void *context, SbaNameKind kind, const char *name, size_t length)
{
	int		   *most = context;

	snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s%.*s",
			 found[0] == '\0' ? "" : " ", kind == SBA_NAME_LABEL ? "." : "", (int) length, name);
	return --* most > 0;
}

static void
names_are(const char *query, const char *expected)
{
	int			most = 100;

	found[0] = '\0';
	sba_scan_promql_names(query, note, &most);
	if (!ok(strcmp(found, expected) == 0, "names: %s", expected))
		fprintf(stderr, "#   found \"%s\" in \"%s\"\n", found, query);
}

int
main(void)
{
	int			most = 2;

	plan_tests(0);
	names_are("", "");
	names_are("up", "up");
	names_are("http_requests:count:rate_5m{job=\"a\"}", "http_requests:count:rate_5m .job");
	names_are("sum(rate(a_sum{x=\"1\"}[5m])) by (service_name) / sum(rate(a_count[5m:1m])) by (service_name)",
			  "a_sum .x .service_name a_count .service_name");
	names_are("sum by (a, b) (x) + on(c) group_left(d) y", ".a .b x .c y");
	names_are("sum without (instance) (x) / ignoring (pod) y", "x y");
	names_are("sum BY(a)(x) and y unless z OR w", ".a x y z w");
	names_are("x{a=\"\",b!=\"\",c=~\"5..\",d=~\".*\",e!~\"z\",f!=\"q\",g=\"}\\\"\"}", "x .b .c .g");
	names_are("{__name__=\"http.server.duration\", job='a'}", "http.server.duration .job");
	names_are("{\"http.server.duration\", \"service.name\"=\"a\"}", "http.server.duration .service.name");
	names_are("{__name__=~\"a|b\"}", "");
	names_are("label_replace(x, \"dst\", \"$1\", \"src\", \"(.*)\")", "x");
	names_are("1e-3 * x > bool 0x1F offset 1h30m # y\n+ z @ end()", "x z");
	names_are("topk(3, x) or vector(0) == inf", "x");
	names_are("x{a=\"1\" or b=\"2\"}", "x .a .b");
	names_are("WITH (f(q) = rate(q[5m])) f(x)", "");
	names_are("x{", "x");
	names_are("x{a", "x");
	names_are("x{a=", "x");
	names_are("x{a=\"1", "x .a");
	names_are("x{a=\"1\\", "x .a");
	names_are("sum by (", "");
	names_are("x[5m", "x");
	names_are("\"not a name\"", "");
	names_are("{__name__=\"a\\\"b\"}", "");

	found[0] = '\0';
	sba_scan_promql_names("a + b + c", note, &most);
	ok(strcmp(found, "a b") == 0, "the sink ends the scan");
	return done();
}
