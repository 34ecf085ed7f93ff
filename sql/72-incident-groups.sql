-- Incidents that one and the same incident is suspected to be behind.

CREATE VIEW smartbox.incident_groups AS
WITH members AS (
    SELECT
        coalesce(i.root_service, i.service) AS root_service,
        coalesce(i.root_incident_id, i.incident_id) AS root_incident_id,
        count(*) AS incidents,
        count(DISTINCT i.service) AS services,
        count(*) FILTER (WHERE i.status <> 'SUSPECTED') AS open_incidents,
        max(i.severity) AS worst_severity,
        min(i.first_seen) AS first_seen,
        max(i.last_seen) AS last_seen,
        array_agg(DISTINCT i.service ORDER BY i.service) AS affected_services
    FROM smartbox.incidents AS i
    WHERE i.status <> 'CLOSED'
    GROUP BY 1, 2
)
SELECT
    m.root_service,
    m.root_incident_id,
    r.anomaly_name,
    r.status,
    r.severity,
    m.services,
    m.incidents,
    m.open_incidents,
    m.worst_severity,
    m.first_seen,
    m.last_seen,
    m.affected_services
FROM members AS m
    LEFT JOIN smartbox.incidents AS r
        ON r.service = m.root_service AND r.incident_id = m.root_incident_id;

COMMENT ON VIEW smartbox.incident_groups IS 'what is wrong now, one row per cause: the incidents that are not closed, under the one that is suspected to be behind them; an incident with nothing behind or under it is a group of its own';
COMMENT ON COLUMN smartbox.incident_groups.root_service IS 'the service where it is suspected to come from';
COMMENT ON COLUMN smartbox.incident_groups.root_incident_id IS 'the incident there; it may be closed while others under it still recover';
COMMENT ON COLUMN smartbox.incident_groups.anomaly_name IS 'what is wrong there; NULL: the incident was deleted';
COMMENT ON COLUMN smartbox.incident_groups.status IS 'its status';
COMMENT ON COLUMN smartbox.incident_groups.severity IS 'its severity, the worst so far';
COMMENT ON COLUMN smartbox.incident_groups.services IS 'services with an incident of the group';
COMMENT ON COLUMN smartbox.incident_groups.incidents IS 'incidents of the group that are not closed, the root among them';
COMMENT ON COLUMN smartbox.incident_groups.open_incidents IS 'of these, open or recovering';
COMMENT ON COLUMN smartbox.incident_groups.worst_severity IS 'the worst of them';
COMMENT ON COLUMN smartbox.incident_groups.first_seen IS 'instant of the first detection of any of them';
COMMENT ON COLUMN smartbox.incident_groups.last_seen IS 'instant of the last detection of any of them';
COMMENT ON COLUMN smartbox.incident_groups.affected_services IS 'the services, by name';
