/*
 * test_incidents.c
 *	  The state machine of incidents in memory, each row of its table.
 */
#include <math.h>
#include <string.h>

#include "core/incidents.h"
#include "tap.h"

#define MINUTE INT64_C(60000000)

enum
{
	SLOW, BROKEN, QUIET, LATENCY
};

static SbaIncidentMachine machine;
static SbaIncidentMove moves[4];

static void
identify(void *context, int name, int64_t first_seen_us, char *id)
{
	(void) context;
	snprintf(id, SBA_INCIDENT_ID_SIZE, "incident_%d_%d", name, (int) (first_seen_us / MINUTE));
}

static void
begin(int confirmation, int grace, int separation_minutes)
{
	SbaIncidentRules rules = {confirmation, grace, separation_minutes * MINUTE};

	sba_incidents_free(&machine);
	sba_incidents_init(&machine, &rules, identify, NULL);
}

static SbaSeenAnomaly
anomaly(int name, int signal, SbaSeverity severity)
{
	SbaSeenAnomaly result = {.name = name,.severity = severity,.score = -0.1 * severity,.confidence = NAN};

	sba_signal_set_add(&result.signals, signal);
	return result;
}

/* One cycle with an anomaly of that name; the incident that it moved. */
static const SbaIncident *
seen(int minute, int name)
{
	SbaSeenAnomaly one = anomaly(name, name, SBA_SEVERITY_HIGH);

	if (sba_incidents_advance(&machine, minute * MINUTE, false, &one, 1, moves, NULL) != SBA_OK)
		return NULL;
	return &machine.incidents[moves[0].incident];
}

static void
quiet(int minute)
{
	sba_incidents_advance(&machine, minute * MINUTE, false, NULL, 0, moves, NULL);
}

static void
without_data(int minute)
{
	sba_incidents_advance(&machine, minute * MINUTE, true, NULL, 0, moves, NULL);
}

static bool
became(const SbaIncident *incident, SbaIncidentAction action, SbaIncidentStatus status, int occurrences)
{
	return incident != NULL && moves[0].action == action && incident->status == status &&
		incident->occurrence_count == occurrences;
}

static void
test_confirmation(void)
{
	begin(2, 3, 30);
	ok(became(seen(0, SLOW), SBA_INCIDENT_CREATE, SBA_INCIDENT_SUSPECTED, 1), "first a suspicion");
	ok(became(seen(5, SLOW), SBA_INCIDENT_CONFIRM, SBA_INCIDENT_OPEN, 2), "then confirmed");
	ok(became(seen(10, SLOW), SBA_INCIDENT_CONTINUE, SBA_INCIDENT_OPEN, 3), "then continued");
	quiet(15);
	ok(machine.incidents[0].status == SBA_INCIDENT_RECOVERING, "not seen: recovering");
	ok(became(seen(20, SLOW), SBA_INCIDENT_CONTINUE, SBA_INCIDENT_OPEN, 4), "seen again: open");
	quiet(25);
	quiet(30);
	quiet(35);
	ok(machine.incidents[0].status == SBA_INCIDENT_CLOSED && machine.incidents[0].reason == SBA_RESOLVED &&
	   machine.incidents[0].resolved_us == 35 * MINUTE && machine.n_active == 0, "three quiet cycles close it");
	ok(became(seen(60, SLOW), SBA_INCIDENT_REOPEN, SBA_INCIDENT_OPEN, 5), "it is reopened soon after");

	begin(2, 2, 30);
	seen(0, SLOW);
	quiet(5);
	ok(became(seen(10, SLOW), SBA_INCIDENT_CONTINUE, SBA_INCIDENT_SUSPECTED, 2), "a quiet cycle starts the row anew");
	quiet(15);
	quiet(20);
	ok(machine.incidents[0].reason == SBA_SUSPECTED_EXPIRED, "a suspicion expires");
	ok(became(seen(25, SLOW), SBA_INCIDENT_CREATE, SBA_INCIDENT_SUSPECTED, 1), "and is never reopened");

	begin(1, 1, 30);
	ok(became(seen(0, SLOW), SBA_INCIDENT_CREATE, SBA_INCIDENT_OPEN, 1), "one detection may be enough");
	quiet(5);
	ok(machine.incidents[0].reason == SBA_RESOLVED, "and one quiet cycle");
	ok(became(seen(35, SLOW), SBA_INCIDENT_CREATE, SBA_INCIDENT_OPEN, 1), "exactly the separation later it is another");
}

static void
test_time(void)
{
	begin(2, 3, 30);
	seen(0, SLOW);
	seen(5, SLOW);
	ok(became(seen(35, SLOW), SBA_INCIDENT_CONTINUE, SBA_INCIDENT_OPEN, 3), "seen within the separation");
	ok(became(seen(66, SLOW), SBA_INCIDENT_CREATE, SBA_INCIDENT_SUSPECTED, 1), "seen after it: a new one");
	ok(machine.incidents[0].reason == SBA_AUTO_STALE && machine.incidents[0].resolved_us == 66 * MINUTE,
	   "and the old one is closed as stale");

	begin(2, 3, 30);
	seen(0, SLOW);
	seen(5, SLOW);
	without_data(65);
	without_data(125);
	ok(machine.incidents[0].status == SBA_INCIDENT_OPEN, "without data it is held");
	ok(became(seen(155, SLOW), SBA_INCIDENT_CONTINUE, SBA_INCIDENT_OPEN, 3), "and held time does not count");
	ok(became(seen(186, SLOW), SBA_INCIDENT_CREATE, SBA_INCIDENT_SUSPECTED, 1), "but once");
}

static void
test_identity(void)
{
	SbaSeenAnomaly several[3];

	begin(2, 3, 30);
	several[0] = anomaly(SLOW, LATENCY, SBA_SEVERITY_LOW);
	sba_incidents_advance(&machine, 0, false, several, 1, moves, NULL);
	several[0] = anomaly(BROKEN, LATENCY, SBA_SEVERITY_CRITICAL);
	sba_incidents_advance(&machine, 5 * MINUTE, false, several, 1, moves, NULL);
	ok(moves[0].incident == 0 && moves[0].action == SBA_INCIDENT_CONFIRM, "another name with a common signal is the same fault");
	ok(machine.incidents[0].name == SLOW && machine.incidents[0].severity == SBA_SEVERITY_CRITICAL, "under its first name, as bad as it got");
	is_double(machine.incidents[0].score, -0.4, 1e-12, "with the worst score");

	several[0] = anomaly(BROKEN, LATENCY, SBA_SEVERITY_LOW);
	several[1] = anomaly(SLOW, LATENCY, SBA_SEVERITY_LOW);
	several[2] = several[0];
	sba_incidents_advance(&machine, 10 * MINUTE, false, several, 3, moves, NULL);
	ok(moves[1].incident == 0 && moves[0].incident == 1 && moves[0].action == SBA_INCIDENT_CREATE,
	   "an incident whose own name is there is not another's");
	ok(moves[2].incident == 1 && machine.incidents[1].occurrence_count == 1, "the same name twice is one fault");
	sba_incidents_advance(&machine, 15 * MINUTE, false, several, 1, moves, NULL);
	ok(moves[0].incident == 1 && machine.incidents[0].status == SBA_INCIDENT_RECOVERING, "its own incident comes first");

	begin(1, 3, 30);
	several[0] = anomaly(QUIET, QUIET, SBA_SEVERITY_LOW);
	several[1] = anomaly(BROKEN, BROKEN, SBA_SEVERITY_LOW);
	sba_incidents_advance(&machine, 0, false, several, 2, moves, NULL);
	ok(machine.n_active == 2 && machine.active[0] == 1, "incidents of one instant are in the order of their ids");
}

int
main(void)
{
	int			minute;

	plan_tests(0);
	test_confirmation();
	test_time();
	test_identity();

	begin(1, 1, 1);
	for (minute = 0; minute < 2000; minute++)
		seen(10 * minute, minute % SBA_MAX_SIGNALS);
	is_uint(machine.n_incidents, 2000, "there may be many");
	is_uint(machine.n_active, 1, "of which one is active");
	sba_incidents_free(&machine);
	return done();
}
