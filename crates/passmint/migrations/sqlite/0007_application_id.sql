-- Says whose file this is: `pasm`. Another program's is refused.
PRAGMA application_id = 1885434733;
