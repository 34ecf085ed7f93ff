/*
 * fleet.c
 *	  Reading a fleet, and holding alarms against its labels.
 */
#include "fleet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BRIDGED_SAMPLES 3
#define GRACE_SAMPLES 2
#define RINGING_SAMPLES 12

#define MAX_HOLIDAYS 64
#define MAX_LINE 1024

/* As smartbox.metrics ships them. */
const SbaMetric fleet_metrics[FLEET_METRICS] = {
	{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e6, 0.05, 0.3, true, {0, 0}, {0, 0}},
	{"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
	{"dependency_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
	{"database_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
	{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false, {0, 0}, {0, 0}},
};

typedef struct Holidays
{
	int			n;
	int			month_day[MAX_HOLIDAYS];
} Holidays;

static FILE *
open_file(const char *path)
{
	FILE	   *file = fopen(path, "r");

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	return file;
}

static FILE *
open_file_of(const char *folder, const char *name)
{
	char		path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open_file(path);
}

static void *
grow(void *array, size_t n, size_t size)
{
	/* capacities are powers of two */
	if ((n & (n - 1)) == 0)
		array = realloc(array, (n == 0 ? 1 : 2 * n) * size);
	if (array == NULL)
		abort();
	return array;
}

static void
read_holidays(const char *path, Holidays *holidays)
{
	char		line[MAX_LINE];
	FILE	   *file;
	int			month;
	int			day;

	holidays->n = 0;
	if (path == NULL)
		return;
	file = open_file(path);
	while (fgets(line, sizeof(line), file) != NULL && holidays->n < MAX_HOLIDAYS)
		if (sscanf(line, "%d-%d", &month, &day) == 2)
			holidays->month_day[holidays->n++] = 100 * month + day;
	fclose(file);
}

/* The periods that smartbox.time_periods ships. */
static uint8_t
period_of(int day, int hour)
{
	if (day >= 5)
		return hour >= 8 && hour < 22 ? 3 : 4;
	if (hour >= 8 && hour < 18)
		return 0;
	return hour >= 6 && hour < 22 ? 1 : 2;
}

static void
place_in_week(int64_t time_s, const Holidays *holidays, int32_t *minute_of_week, uint8_t *period)
{
	time_t		time = (time_t) time_s;
	struct tm	local;
	int			day;
	int			i;

	localtime_r(&time, &local);
	day = (local.tm_wday + 6) % 7;
	for (i = 0; i < holidays->n && day < 5; i++)
		if (holidays->month_day[i] == 100 * (local.tm_mon + 1) + local.tm_mday)
			day = 6;
	*minute_of_week = (day * 24 + local.tm_hour) * 60 + local.tm_min;
	*period = period_of(day, local.tm_hour);
}

static int64_t
number_of(const char *json, const char *key)
{
	const char *found = strstr(json, key);

	return found == NULL ? 0 : strtoll(found + strlen(key) + 2, NULL, 10);
}

static SbaEvalService *
service_named(SbaEvalFleet *fleet, const char *name)
{
	size_t		i;

	/* rows of one service follow each other */
	for (i = fleet->n_services; i > 0; i--)
		if (strcmp(fleet->service[i - 1].name, name) == 0)
			return &fleet->service[i - 1];
	fleet->service = grow(fleet->service, fleet->n_services, sizeof(SbaEvalService));
	memset(&fleet->service[fleet->n_services], 0, sizeof(SbaEvalService));
	snprintf(fleet->service[fleet->n_services].name, sizeof(fleet->service[0].name), "%s", name);
	return &fleet->service[fleet->n_services++];
}

static void
read_metrics(SbaEvalFleet *fleet, const char *folder, const Holidays *holidays)
{
	FILE	   *file = open_file_of(folder, "metrics.csv");
	char		line[MAX_LINE];
	bool		is_header = true;

	while (fgets(line, sizeof(line), file) != NULL)
	{
		char	   *field = line;
		SbaEvalService *service;
		size_t		n;
		int			m;

		if (is_header)
		{
			is_header = false;
			continue;
		}
		service = service_named(fleet, strsep(&field, ","));
		n = service->n_rows++;
		service->time_s = grow(service->time_s, n, sizeof(int64_t));
		service->minute_of_week = grow(service->minute_of_week, n, sizeof(int32_t));
		service->period = grow(service->period, n, sizeof(uint8_t));
		service->values = grow(service->values, n, FLEET_METRICS * sizeof(double));
		service->time_s[n] = strtoll(strsep(&field, ","), NULL, 10);
		place_in_week(service->time_s[n], holidays, &service->minute_of_week[n], &service->period[n]);
		for (m = 0; m < FLEET_METRICS; m++)
		{
			const char *text = strsep(&field, ",\n");
			char	   *end;
			double		value = strtod(text, &end);

			service->values[n * FLEET_METRICS + (size_t) m] = end == text ? NAN : value;
		}
		if (service->time_s[n] < fleet->first_s)
			service->n_training = n + 1;
		else if (fleet_instant(fleet, service->time_s[n]) < (int64_t) fleet->n_judged)
			fleet->reported[fleet_instant(fleet, service->time_s[n])] = true;
	}
	fclose(file);
}

static void
read_labels(SbaEvalFleet *fleet, const char *folder)
{
	FILE	   *file = open_file_of(folder, "labels.csv");
	char		line[MAX_LINE];

	while (fgets(line, sizeof(line), file) != NULL)
	{
		char	   *field[7];
		char	   *rest = line;
		SbaEvalService *service;
		SbaEvalSpan span;
		int			i;

		for (i = 0; i < 7; i++)
			field[i] = strsep(&rest, ",\r\n");
		span.start_s = strtoll(field[2], NULL, 10);
		span.end_s = strtoll(field[3], NULL, 10);
		if (strcmp(field[6], "incident") == 0)
		{
			service = service_named(fleet, field[0]);
			service->incident = grow(service->incident, service->n_incidents, sizeof(span));
			service->incident[service->n_incidents++] = span;
		}
		else if (strcmp(field[6], "ignore") == 0)
		{
			service = service_named(fleet, field[0]);
			service->ignored = grow(service->ignored, service->n_ignored, sizeof(span));
			service->ignored[service->n_ignored++] = span;
		}
	}
	fclose(file);
}

SbaEvalFleet *
fleet_read(const char *folder, const char *holidays_path)
{
	SbaEvalFleet *fleet = calloc(1, sizeof(*fleet));
	FILE	   *file = open_file_of(folder, "meta.json");
	char		json[MAX_LINE] = {0};
	Holidays	holidays;

	if (fleet == NULL || fread(json, 1, sizeof(json) - 1, file) == 0)
		abort();
	fclose(file);
	fleet->first_s = number_of(json, "eval_start");
	fleet->n_judged = (size_t) fleet_instant(fleet, number_of(json, "eval_end")) + 1;
	fleet->reported = calloc(fleet->n_judged, sizeof(bool));
	if (fleet->reported == NULL)
		abort();
	read_holidays(holidays_path, &holidays);
	read_metrics(fleet, folder, &holidays);
	read_labels(fleet, folder);
	return fleet;
}

static bool
any_span_meets(const SbaEvalSpan *spans, size_t n, int64_t start_s, int64_t end_s, int before, int after)
{
	size_t		i;

	for (i = 0; i < n; i++)
		if (start_s <= spans[i].end_s + after * FLEET_INTERVAL_S && end_s >= spans[i].start_s - before * FLEET_INTERVAL_S)
			return true;
	return false;
}

void
fleet_tally(const SbaEvalFleet *fleet, const SbaEvalService *service, const bool *alarms, SbaEvalTally *tally)
{
	size_t		i = 0;

	tally->service_weeks += (double) fleet->n_judged * FLEET_INTERVAL_S / (7 * 86400);
	tally->n_incidents += service->n_incidents;
	for (i = 0; i < service->n_incidents; i++)
	{
		int64_t		at = fleet_instant(fleet, service->incident[i].start_s);
		int64_t		end = fleet_instant(fleet, service->incident[i].end_s) + GRACE_SAMPLES;

		while (at <= end && at < (int64_t) fleet->n_judged && !alarms[at])
			at++;
		tally->n_found += at <= end && at < (int64_t) fleet->n_judged;
	}

	for (i = 0; i < fleet->n_judged; i++)
	{
		int64_t		start_s = fleet->first_s + (int64_t) i * FLEET_INTERVAL_S;
		int64_t		end_s = start_s;
		bool		in_gaps = true;
		size_t		quiet;

		if (!alarms[i])
			continue;
		for (quiet = 0; i < fleet->n_judged && quiet <= BRIDGED_SAMPLES; i++)
		{
			int64_t		time_s = fleet->first_s + (int64_t) i * FLEET_INTERVAL_S;

			quiet = alarms[i] ? 0 : quiet + 1;
			if (!alarms[i])
				continue;
			end_s = time_s;
			in_gaps &= any_span_meets(service->ignored, service->n_ignored, time_s, time_s, GRACE_SAMPLES, GRACE_SAMPLES);
		}
		i--;
		if (any_span_meets(service->incident, service->n_incidents, start_s, end_s, 0, RINGING_SAMPLES))
			tally->n_right++;
		else
			tally->n_wrong += !in_gaps;
	}
}
