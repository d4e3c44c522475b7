-- Asks which epoch this server may act under. Never creates one (rule 3).
-- KEYS 1 epoch.  Reply: its number, or 0.
--include epoch_guard
return current_epoch(KEYS[1])
