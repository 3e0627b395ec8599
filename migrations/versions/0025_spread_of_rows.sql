-- Sketches of the round-trip times of hops and of classes of traffic, from which percentiles are read.

ALTER TABLE rollup_traceroute_hops_5m ADD COLUMN rtt_avg_ms_sketch INTEGER[];
ALTER TABLE rollup_traceroute_hops_1h ADD COLUMN rtt_avg_ms_sketch INTEGER[];
ALTER TABLE rollup_traceroute_hops_1d ADD COLUMN rtt_avg_ms_sketch INTEGER[];

ALTER TABLE rollup_qos_classes_5m ADD COLUMN rtt_median_ms_sketch INTEGER[];
ALTER TABLE rollup_qos_classes_1h ADD COLUMN rtt_median_ms_sketch INTEGER[];
ALTER TABLE rollup_qos_classes_1d ADD COLUMN rtt_median_ms_sketch INTEGER[];
