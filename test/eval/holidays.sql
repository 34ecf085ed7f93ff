-- Bank holidays from lines "month-day,description" on standard input, for each
-- year of the samples.
CREATE TABLE holiday (month_day text, description text);
\copy holiday FROM pstdin WITH (FORMAT csv)

INSERT INTO smartbox.calendar (kind, starts_at, description)
SELECT 'holiday', to_date(y.year || '-' || h.month_day, 'YYYY-MM-DD'), h.description
FROM holiday AS h
CROSS JOIN (SELECT DISTINCT extract(year FROM ts) AS year FROM smartbox.samples) AS y;
