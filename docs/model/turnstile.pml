/*
 * Turnstile's protocol: what docs/design.md calls a turn, under everything that can go
 * wrong with it. The transaction that commits a turn carries its bytes; the file is
 * written from what is committed. scripts/model.sh runs this. README.md beside it says
 * what is modelled, and what is not.
 *
 * Turns are numbered from 1, and a turn is one cell of the file, so an offset is a number
 * of turns. Sets of turns and of places are bits of a number. Head's version is the turn
 * in it, because nothing but a commit writes head. There are no clocks: an agent that is
 * paused is one that is not scheduled, and a wait "for a while" may end at any time.
 *
 * An agent is two processes: Line queues and commits, Disk writes, syncs, acknowledges and
 * deletes nodes. Each step is one atomic block; everybody else runs between steps only.
 * -DNO_… leaves a guard out, -DEVICT, -DCRASH … let a kind of fault in, and
 * -DWITNESS=W_… makes reaching a place an error, to see that it is reached.
 */
#ifndef AGENTS
#define AGENTS 2
#endif
#ifndef RECORDS
#define RECORDS 2       /* each agent's; one a turn */
#endif
#ifndef FEWER
#define FEWER RECORDS   /* the others' than the first agent's */
#endif
#define LIMIT(agent) ((agent) == 0 -> RECORDS : FEWER)
#ifndef UNDER_WAY
#define UNDER_WAY 1     /* turns of one agent that may be committed and not acknowledged: 1 or 2 */
#endif
#ifndef FAULTS
#define FAULTS 2        /* at most so many in a run */
#endif

#define TURNS 8         /* more than any run commits; pan checks the bounds */
#define TOKENS 14       /* a place is a bit of a short, the first is bit 1 */
#define NONE 0
#define ME (_pid % AGENTS)  /* Line and Disk of one agent */
#define BIT(n) (1 << (n))
#define FIRST(set) ((set) & -(set))
#define BELOW(n) (BIT(n) - 2)   /* all turns before n */

#ifdef WITNESS
#define W_filled 1              /* another's missing turn was written before the own one */
#define W_leftover 2            /* a dead owner's turn was written, synced and its node deleted */
#define W_gone 3                /* acknowledged, because its node is gone and the file has it */
#define W_looked_again 4        /* no node where the file was short, but then it was there */
#define W_delete_failed 5       /* a node that the commit deletes was gone: sent again */
#define W_deleted_in_commit 6   /* a node was deleted by the next commit */
#define W_unknown_head 7        /* settled: head says that it was committed */
#define W_unknown_node 8        /* settled: our node says so */
#define W_unknown_file 9        /* settled: the file says so */
#define W_unknown_not 10        /* settled: it never happened */
#define W_unknown_others 11     /* settled: the turn of its number is another agent's */
#define W_late_done 12          /* a request on a connection that was given up committed */
#define W_late_refused 13       /* … and was refused */
#define W_next_used 14          /* a next place that nobody told of was found, and used */
#define W_next_removed 15       /* … or removed */
#define W_sync_failed 16        /* a sync failed, and all was written again */
#define W_told 17               /* … by another's failure */
#define W_power_hole 18         /* a power loss left a hole before what it kept */
#define W_power_zeros 19        /* … or zeros at the end */
#define W_stale 20              /* head was read from a server that lagged behind */
#define W_overtaken 21          /* the file was beyond that head, and our place was gone */
#define W_all_acknowledged 22   /* every record, without a fault */
#define W_all_faults 23         /* every fault happened, and every agent came to rest */
#define W_refused_look 24       /* a holder refused a file that was cut */
#define W_refused_fill 25       /* … a writer */
#define REACHED(name) assert(W_##name != WITNESS)
#else
#define REACHED(name) skip
#endif

/* What must never be false, by names that pan's message then says. */
bit one_value_for_a_turn = 1, no_record_twice = 1, tokens_rise = 1,
	only_committed_is_written = 1, no_gap_is_visible = 1, no_committed_turn_is_lost = 1,
	acknowledged_is_committed = 1, acknowledged_is_durable = 1, acknowledged_in_order = 1,
	no_turn_is_given_up_for_nothing = 1, everybody_comes_to_rest = 1, refused_only_for_a_reason = 1;
#define ALWAYS(name, condition) name = (condition); assert(name)

/* ZooKeeper, one atomic object. The queue is a set of tokens; a place's token is its
   creation zxid and orders the queue too. */
byte head_turn, head_token;
byte nodes;             /* turns that have a node in turns/ */
byte value[TURNS];      /* the record that a turn was committed with: in its node, and its only value */
byte next_token = 1;
short places[AGENTS];   /* of each agent's session, while that is alive */
short forgotten[AGENTS];  /* of its sessions that it is not alive to keep, until they expire */
byte commit_made[AGENTS]; /* the place that the last commit took: found by its GUID */
#if AGENTS == 2
#define QUEUE (places[0] | forgotten[0] | places[1] | forgotten[1])
#else
#define QUEUE (places[0] | forgotten[0] | places[1] | forgotten[1] | places[2] | forgotten[2])
#endif

/* Commits that are under way on connections that were given up: they may arrive at any
   time, or never. late_place is NONE when there is none. */
byte late_place[AGENTS], late_turn[AGENTS], late_record[AGENTS], late_deletes[AGENTS];
bit late_again[AGENTS];

/* The volume. A turn that is visible is on the disk, or dirty in the page cache of the
   volume's host; or neither, when a writeback failed and left the page clean. */
byte size;              /* the file's length, in turns */
byte visible, dirty, durable;

/* An agent's memory. */
byte given[AGENTS];     /* records that its source gave, and that it is done committing */
byte own[AGENTS];       /* its turns that are committed and not acknowledged */
byte wrote[AGENTS];     /* turns that it wrote itself since its last good sync */
byte kept[AGENTS];      /* turns that it wrote and synced itself: it may delete their nodes */
bit told[AGENTS];       /* the kernel has a failed writeback to tell its descriptor of */
bit committing[AGENTS]; /* a commit of its next record may have been sent */
byte abandoned;         /* turns whose owner has died */

/* The faults, and what the properties have to remember. */
byte faults = FAULTS;
bit line_killed[AGENTS], disk_killed[AGENTS], gone[AGENTS];
bit powerless, was_cut; /* it happened */

/* ---------------------------------------------------------------- ZooKeeper's side */

#define STANDS(agent, place) ((places[agent] | forgotten[agent]) & BIT(place))

inline create(agent, token) {
	assert(next_token <= TOKENS);
	token = next_token;
	next_token++;
	places[agent] = places[agent] | BIT(token)
}

inline delete(agent, token) {
	places[agent] = places[agent] & ~BIT(token);
	forgotten[agent] = forgotten[agent] & ~BIT(token)
}

/* The place just before token's, NONE when it is the first. */
inline nearest_ahead(token, nearest) {
	nearest = token - 1;
	do
	:: nearest > 0 && !(QUEUE & BIT(nearest)) -> nearest--
	:: else -> break
	od
}

#ifdef NO_PLACE
#define PLACE_STANDS(agent, place) true
#else
#define PLACE_STANDS(agent, place) STANDS(agent, place)
#endif
#ifdef NO_HEAD_VERSION
#define VERSION_IS(turn) true
#else
#define VERSION_IS(turn) (head_turn == (turn))
#endif

#ifdef NO_DROP_CONDITION
#define DOUBT false
#else
#define DOUBT unanswered
#endif

#define DONE 1
#define REFUSED 2       /* the place is gone, or head is another */
#define NO_NODE 3       /* … they are right, but a node to be deleted is gone */

/* The one transaction: set head at the version that was read, create the turn's node with
   its bytes, delete the own place, create the next, delete nodes. All of it or nothing. */
inline transact(agent, place, turn, record, again, deletes, answer) {
	if
	:: !PLACE_STANDS(agent, place) || !VERSION_IS(turn) || (nodes & BIT(turn + 1)) -> answer = REFUSED
	:: else -> if
		:: deletes & ~nodes -> answer = NO_NODE
		:: else ->
			answer = DONE;
			ALWAYS(one_value_for_a_turn, value[turn + 1] == NONE);
			check_once(record);
			ALWAYS(tokens_rise, place > head_token);
			value[turn + 1] = record;
			head_turn = turn + 1;
			head_token = place;
			nodes = nodes | BIT(turn + 1);
			commit_made[agent] = NONE;
			if
			:: again && (places[agent] & BIT(place)) -> create(agent, commit_made[agent])
			:: again && !(places[agent] & BIT(place)) -> /* the session is as dead as its agent */
				forgotten[agent] = forgotten[agent] | BIT(next_token);
				next_token++
			:: else
			fi;
			delete(agent, place);
			if
			:: deletes -> delete_nodes(deletes)
			:: else
			fi
		fi
	fi
}

inline delete_nodes(turns) {
	ALWAYS(no_committed_turn_is_lost, was_cut || !((turns) & nodes & ~durable));
	nodes = nodes & ~(turns)
}

/* This record is in no turn yet. */
inline check_once(record) {
	k = 1;
	do
	:: k < TURNS -> ALWAYS(no_record_twice, value[k] != record); k++
	:: else -> k = 0; break
	od
}

/* ------------------------------------------------------------------ the volume's side */

/* By position; what is on the disk stays there, for the bytes are the same. */
inline write(turn) {
	ALWAYS(only_committed_is_written, value[turn] != NONE);
	ALWAYS(no_gap_is_visible, powerless || !(BELOW(turn) & ~visible));
	visible = visible | BIT(turn);
	dirty = dirty | (BIT(turn) & ~durable);
	wrote[ME] = wrote[ME] | BIT(turn);
	if
	:: size < turn -> size = turn
	:: else
	fi
}

/* A sync covers its caller's writes, and nobody else's. */
inline sync() {
	durable = durable | (dirty & wrote[ME]);
	dirty = dirty & ~wrote[ME]
}

/* … what it could not write stays visible, and clean. Every descriptor is told, once. */
inline fail_sync() {
	dirty = dirty & ~wrote[ME];
	k = 0;
	do
	:: k < AGENTS -> told[k] = told[k] || (k != ME && wrote[k]); k++
	:: else -> k = 0; break
	od
}

inline acknowledge(turn) {
	ALWAYS(acknowledged_is_committed, value[turn] != NONE && (value[turn] - 1) / RECORDS == ME);
	ALWAYS(acknowledged_is_durable, was_cut || (durable & BIT(turn)));
	ALWAYS(acknowledged_in_order, !(own[ME] & BELOW(turn)));
	own[ME] = own[ME] & ~BIT(turn);
	check_rest()
}

inline lowest(turns, turn) {
	turn = 1;
	do
	:: !((turns) & BIT(turn)) -> turn++
	:: else -> break
	od
}

#if AGENTS == 2
#define ALL_GIVEN (given[0] == RECORDS && given[1] == FEWER && !own[0] && !own[1])
#else
#define ALL_GIVEN (given[0] == RECORDS && given[1] == FEWER && given[2] == FEWER && !own[0] && !own[1] && !own[2])
#endif
#define AT_REST (ALL_GIVEN && !nodes)

inline check_rest() {
	if
	:: AT_REST && faults == FAULTS -> REACHED(all_acknowledged)
	:: AT_REST && faults == 0 -> REACHED(all_faults)
	:: else
	fi
}

/* A session is closed, or will expire: its places are nobody's from now on. */
inline close(agent) { forgotten[agent] = forgotten[agent] | places[agent]; places[agent] = 0 }

/* What an agent knew is gone with it, and a record that it was about to commit is its
   caller's to find out about. It is started again, and goes on with the next. */
inline kill(agent) {
	close(agent);
	k = 1;
	do
	:: k < TURNS -> abandoned = abandoned | (value[k] != NONE && (value[k] - 1) / RECORDS == agent -> BIT(k) : 0); k++
	:: else -> k = 0; break
	od;
	own[agent] = 0; wrote[agent] = 0; kept[agent] = 0; told[agent] = false; commit_made[agent] = NONE;
	line_killed[agent] = (line_killed[agent] || given[agent] < LIMIT(agent));
	disk_killed[agent] = true;
	if
	:: committing[agent] -> given[agent]++; committing[agent] = false
	:: else
	fi
}

/* An agent that refuses ends. */
inline refuse() {
	d_step {
		ALWAYS(refused_only_for_a_reason, was_cut);
		gone[ME] = true;
		kill(ME);
		given[ME] = LIMIT(ME)
	}
}

/* ------------------------------------------------------------------- an agent's turns */

#define OWN_PLACE (places[ME] & BIT(token))
#define RECORD (ME * RECORDS + given[ME] + 1)
#if UNDER_WAY == 1
#define BELOW_BOUND (own[ME] == 0)
#define AGAIN false
#else
#define BELOW_BOUND ((own[ME] & (own[ME] - 1)) == 0)
#define AGAIN (own[ME] == 0 && given[ME] + 1 < LIMIT(ME))
#endif

#ifdef STALE
#define LOOK goto Look
#else
#define LOOK end = size; goto Read /* no server lags, so that nothing can come between that matters */
#endif

active [AGENTS] proctype Line() {
	byte token;     /* our place */
	byte ahead;     /* the place just before it */
	byte turn;      /* head as we read it: our turn is turn + 1 */
	byte by;        /* … and whose commit that was */
	byte end;       /* the file's length, as we looked at it */
	byte deletes;   /* nodes that the commit deletes */
	bit again;      /* the commit takes the next place */
	bit unanswered; /* a sending of our commit was not answered */
	bit looked;
	byte answer;
	byte k;

	do
	:: {
	if
	:: given[ME] == LIMIT(ME) -> goto End
	:: else
	fi;
Join:   /* When the answer is lost the place is found again by its GUID. At its bound an
	   agent takes no place. */
	atomic {
		token = NONE; turn = 0; by = NONE; end = 0;
		if
		:: given[ME] == LIMIT(ME) -> goto End
		:: given[ME] < LIMIT(ME) && BELOW_BOUND -> create(ME, token)
		fi
	}

Wait:   /* List; watch the place just before ours, and our own. */
	atomic {
		if
		:: !OWN_PLACE -> goto Join
		:: else
		fi;
		d_step { nearest_ahead(token, ahead); skip };
#ifdef STALE
		turn = head_turn; by = head_token; /* what a server that lags may still show */
#endif
		if
		:: ahead == NONE -> LOOK
		:: else
		fi
	}
	atomic {
		if
		:: !(QUEUE & BIT(ahead)) -> LOOK
		:: !OWN_PLACE -> goto Join
		fi
	}

	/* The file's length first, then head, as holder. */
#ifdef STALE
Look:	atomic { end = size };
#endif
Read:
	atomic {
		if
		:: true -> turn = head_turn; by = head_token
#ifdef STALE
		:: faults > 0 && turn != head_turn -> faults--; REACHED(stale)
#endif
		fi;
#ifndef NO_FRESH_HEAD
		/* Head names our predecessor, whose commit it was, or the list showed none. */
		if
		:: ahead != NONE && by != ahead -> ahead = NONE; turn = 0; by = NONE; end = 0; goto Wait
		:: else
		fi;
#endif
		ahead = NONE; by = NONE;
		if
#ifndef NO_BEYOND
		:: end > turn -> goto Confirm
#endif
#ifndef NO_SHORTER
		:: end < turn && (BELOW(turn + 1) & ~BELOW(end + 1) & ~nodes) -> goto Short
#endif
		:: else -> goto Send
		fi
	}

Confirm: /* The file is beyond head; so somebody else wrote, unless we were overtaken. */
	atomic {
#ifndef NO_CONFIRM
		if
		:: !OWN_PLACE -> REACHED(overtaken); goto Join
		:: else
		fi;
#endif
		refuse(); goto End
	}

Short:  /* No node where the file is short: look again, after that answer. */
#ifdef NO_LOOK_AGAIN
	atomic { refuse(); goto End };
#endif
	atomic {
		by = end;
		end = size;
		if
		:: end < turn && (BELOW(turn + 1) & ~BELOW(end + 1) & ~nodes) ->
			if
			:: end > by -> by = NONE; goto Short /* it has grown: the answer was about less */
			:: else -> REACHED(refused_look); refuse(); goto End
			fi
		:: else -> by = NONE; REACHED(looked_again)
		fi
	}

Send:   /* Commit, give the place up and queue again. */
	atomic {
		if
		:: !committing[ME] -> end = 0; again = AGAIN; deletes = kept[ME]; committing[ME] = true;
#ifdef NO_COMMIT_FIRST
			d_step { write(turn + 1) }
#endif
		:: else
		fi;
		if
		:: true -> d_step { transact(ME, token, turn, RECORD, again, deletes, answer) };
			if
			:: answer == DONE -> goto Committed
			:: answer == REFUSED && unanswered -> goto Settle /* the first sending may have done it */
			:: answer == REFUSED && !unanswered -> goto Leave
			:: answer == NO_NODE && DOUBT -> goto Settle
			:: answer == NO_NODE && !DOUBT ->
#ifdef NO_DROP
				goto Leave
#else
				REACHED(delete_failed); answer = 0;
				kept[ME] = kept[ME] & ~(deletes & ~nodes); deletes = deletes & nodes;
				goto Send
#endif
			fi
#ifdef LOSE
		:: faults > 0 -> faults--; d_step { transact(ME, token, turn, RECORD, again, deletes, answer) }
		:: faults > 0 && late_place[ME] == NONE -> faults--;
			late_place[ME] = token; late_turn[ME] = turn; late_again[ME] = again;
			late_record[ME] = RECORD; late_deletes[ME] = deletes
#endif
		:: !OWN_PLACE -> goto Settle    /* the session is over before it is sent */
		fi;
		answer = 0; unanswered = true
	}
	/* The connection broke: the same again, unless the session is over. */
	if
#ifdef NO_UNKNOWN
	:: goto Leave
#else
	:: goto Send
	:: goto Settle
#endif
	fi;

Settle: /* First the place goes, and with it any chance of a commit … */
	atomic {
		answer = 0;
#ifndef NO_SETTLE_DELETE
		delete(ME, token)
#endif
	}
	/* … then head tells, behind a quorum; … */
SettleHead:
	atomic {
		if
		:: head_turn <= turn -> REACHED(unknown_not); goto Never
#ifdef NO_SETTLE_TOKEN
		:: head_turn > turn -> goto Committed
#else
		:: head_turn == turn + 1 ->
			if
			:: value[turn + 1] == RECORD -> REACHED(unknown_head); goto Committed
			:: else -> REACHED(unknown_others); goto Never
			fi
		:: head_turn > turn + 1
#endif
		fi
	}
	/* … or our node; … */
	atomic {
		if
		:: nodes & BIT(turn + 1) ->
			if
			:: value[turn + 1] == RECORD -> REACHED(unknown_node); goto Committed
			:: else -> REACHED(unknown_others); goto Never
			fi
		:: else
		fi
	}
	/* … or the file, looked at after that answer. */
	atomic {
#ifdef NO_SETTLE_FILE
		goto Never;
#endif
		if
		:: visible & BIT(turn + 1) ->
			if
			:: value[turn + 1] == RECORD -> REACHED(unknown_file); goto Committed
			:: else -> REACHED(unknown_others); goto Never
			fi
		:: !(visible & BIT(turn + 1)) && !looked -> looked = true; goto SettleHead
		:: else -> refuse(); goto End
		fi
	}

Never:  /* The record goes back to its source. */
	atomic {
		unanswered = false; looked = false; again = false; deletes = 0; committing[ME] = false;
#ifdef NO_SETTLE_DELETE
		delete(ME, token);      /* only now */
#endif
		goto Join
	}

Committed: /* From here on the turn is Disk's. */
	atomic {
		if
		:: deletes -> REACHED(deleted_in_commit)
		:: else
		fi;
		own[ME] = own[ME] | BIT(turn + 1);
		kept[ME] = kept[ME] & ~deletes;
		given[ME]++;
		committing[ME] = false;
		/* The next place, which the commit may have made, is found by its GUID. */
#ifdef NO_NEXT_PLACE
		token = (unanswered -> NONE : commit_made[ME]);
#else
		token = commit_made[ME];
		if
		:: token != NONE && unanswered && OWN_PLACE ->
			if
			:: true -> REACHED(next_used)
			:: true -> REACHED(next_removed); delete(ME, token); token = NONE
			fi
		:: else
		fi;
#endif
		commit_made[ME] = NONE; turn = 0; answer = 0;
		unanswered = false; looked = false; again = false; deletes = 0;
		if
		:: token != NONE -> goto Wait
		:: else -> goto Join
		fi
	}

Leave:  /* Refused, and it never happened: the turn is lost, and the place was lost before. */
	atomic {
		ALWAYS(no_turn_is_given_up_for_nothing, unanswered || !OWN_PLACE);
		delete(ME, token);
		answer = 0; unanswered = false; again = false; deletes = 0; committing[ME] = false;
		goto Join
	}

	} unless { line_killed[ME] ->
		d_step {
			line_killed[ME] = false;
			token = NONE; ahead = NONE; turn = 0; by = NONE; end = 0; deletes = 0; again = false;
			unanswered = false; looked = false; answer = 0; k = 0
		}
	}
	od;
End:    line_killed[ME] = false
}

/* -------------------------------------------------------------------- an agent's disk */

/* A node goes by itself where no commit comes soon. */
#ifdef ANYBODYS
#define BY_ITSELF 255
#else
#define BY_ITSELF (given[ME] == LIMIT(ME) -> 255 : abandoned)
#endif
#define UNWRITTEN (own[ME] & ~wrote[ME])
#ifdef ANYBODYS
#define LEFTOVERS (nodes & ~own[ME] & ~kept[ME])
#else
/* Jitter: two seldom write the same leftover. */
#if AGENTS == 2
#define OTHERS (wrote[1 - ME] | kept[1 - ME])
#else
#define OTHERS (wrote[0] | kept[0] | wrote[1] | kept[1] | wrote[2] | kept[2])
#endif
#define LEFTOVERS (nodes & abandoned & ~own[ME] & ~kept[ME] & ~OTHERS)
#endif
#ifdef NO_LEFTOVERS
#undef LEFTOVERS
#define LEFTOVERS 0
#endif

active [AGENTS] proctype Disk() {
	byte redo;      /* turns to be written again */
	byte turn;      /* to be written */
	byte missing;   /* what the file lacks before it */
	byte k;

	do
	:: {
	goto Idle;
Idle:
end:    atomic {
		if
		:: redo -> d_step { lowest(redo, turn); skip }; goto Fill
		:: !redo && UNWRITTEN -> d_step { lowest(UNWRITTEN, turn); skip };
#ifdef NO_OWN_WRITE
			if
			:: visible & BIT(turn) -> kept[ME] = kept[ME] | BIT(turn); acknowledge(turn); turn = 0; goto Idle
			:: else
			fi;
#endif
			goto Fill
		/* The other ground: our node is gone, … */
		:: !redo && (FIRST(own[ME]) & ~nodes) -> d_step { lowest(own[ME], turn); skip }; goto Gone
		:: !redo && wrote[ME] -> goto Sync
		:: !redo && !UNWRITTEN && !wrote[ME] && (kept[ME] & BY_ITSELF) -> goto Delete
		/* Anybody writes what a dead owner left, though the file may already show it. */
		:: !redo && !UNWRITTEN && !wrote[ME] && LEFTOVERS -> d_step { lowest(LEFTOVERS, turn); skip };
#ifdef NO_DELETE_AFTER_SYNC
			if
			:: visible & BIT(turn) -> kept[ME] = kept[ME] | BIT(turn); turn = 0; goto Idle
			:: else
			fi;
#endif
#ifdef NO_LEFTOVER_ORDER
			goto Write
#else
			goto Fill
#endif
		fi
	}

Fill:   /* What the file lacks before our turn is written first. … */
	atomic {
		if
#ifdef NO_FILL
		:: true -> goto Write
#else
		:: size + 1 >= turn -> goto Write
#endif
		:: else -> missing = size + 1
		fi
	}
	/* … from its node. (Whatever happens between reading that and writing this, the bytes
	   are the same.) … */
	atomic {
		if
		:: !(nodes & BIT(missing)) -> goto Short
		:: else -> d_step { write(missing); missing = 0 }; REACHED(filled); goto Fill
		fi
	}

Short:  /* … No node: look again, after that answer. */
	atomic {
		if
#ifndef NO_LOOK_AGAIN
		:: size >= missing -> missing = 0; REACHED(looked_again); goto Fill
#endif
		:: else -> REACHED(refused_fill);
#ifdef NO_SHORTER
			goto Write
#else
			refuse(); goto End
#endif
		fi
	}

Write:
	atomic {
		ALWAYS(only_committed_is_written, !(own[ME] & BIT(turn)) || (value[turn] - 1) / RECORDS == ME);
		d_step { write(turn) };
		redo = redo & ~BIT(turn);
#ifdef NO_ACK_AFTER_SYNC
		if
		:: own[ME] & BIT(turn) -> acknowledge(turn)
		:: else
		fi;
#endif
		turn = 0; missing = 0;
		goto Idle
	}

Sync:   /* … and acknowledge, in order. */
	atomic {
		if
		:: told[ME] ->
			told[ME] = false; REACHED(told);
#ifndef NO_ONE_DESCRIPTOR
			goto Again
#endif
		:: !told[ME]
#ifdef FAIL
		:: !told[ME] && faults > 0 -> faults--; d_step { fail_sync(); skip }; REACHED(sync_failed); goto Again
#endif
		fi;
		d_step { sync() };
		kept[ME] = kept[ME] | wrote[ME];
		wrote[ME] = 0;
		do
		:: own[ME] & kept[ME] -> d_step { lowest(own[ME] & kept[ME], turn); skip }; acknowledge(turn)
		:: else -> break
		od;
		turn = 0;
		goto Idle
	}

Again:  /* The sync failed: all that was written since the last good one, again. */
	atomic {
		redo = wrote[ME];
#ifdef NO_REWRITE
		redo = 0;
#endif
#ifdef NO_REWRITE_ALL
		do
		:: redo & (redo - 1) -> redo = redo & (redo - 1) /* the last turn only */
		:: else -> break
		od;
#endif
		goto Idle
	}

Gone:   /* … and the file, looked at after that answer, has the turn. */
	atomic {
		if
		:: visible & BIT(turn) -> REACHED(gone); wrote[ME] = wrote[ME] & ~BIT(turn); acknowledge(turn); turn = 0; goto Idle
		:: else -> refuse(); goto End
		fi
	}

Delete: /* A node by itself, because no commit comes soon. */
	atomic {
		if
		:: !(kept[ME] & BY_ITSELF) -> goto Idle       /* a commit has just done it */
		:: else
		fi;
		d_step {
			lowest(kept[ME] & BY_ITSELF, turn);
			if
			:: nodes & BIT(turn) -> delete_nodes(BIT(turn))
			:: else
			fi
		};
		if
		:: abandoned & BIT(turn) -> REACHED(leftover)
		:: else
		fi;
		kept[ME] = kept[ME] & ~BIT(turn);
		check_rest();
		turn = 0;
		goto Idle
	}

	} unless { disk_killed[ME] ->
		d_step { disk_killed[ME] = false; redo = 0; turn = 0; missing = 0; k = 0 };
		if
		:: gone[ME] -> goto End
		:: else
		fi
	}
	od;
End:    skip
}

/* ------------------------------------------------------- what the world does to them */

#define RUNS(agent) (!gone[agent] && !disk_killed[agent])

inline kill_running(agent) {
	if
	:: RUNS(agent) -> kill(agent)
	:: else
	fi
}

/* A request of a connection that was given up arrives after all. Its answer goes nowhere. */
inline arrive(agent) {
	transact(agent, late_place[agent], late_turn[agent], late_record[agent], late_again[agent], late_deletes[agent], answer);
	if
	:: answer == DONE -> REACHED(late_done);
		if /* its owner died before it came, and was started again */
		:: late_record[agent] <= agent * RECORDS + given[agent] -> abandoned = abandoned | BIT(head_turn)
		:: else
		fi
	:: else -> REACHED(late_refused)
	fi;
	answer = 0;
	forget(agent)
}

inline forget(agent) {
	late_place[agent] = NONE; late_turn[agent] = 0; late_record[agent] = 0; late_deletes[agent] = 0; late_again[agent] = false
}

inline evict(agent) { faults > 0 && places[agent] -> faults--; places[agent] = 0 }

/* An agent on the volume's host dies with it; another's descriptor is told at its next sync. */
inline power_off(agent) {
	if
	:: RUNS(agent) -> kill(agent)
	:: RUNS(agent) -> told[agent] = (wrote[agent] != 0)
	:: else
	fi
}

active proctype World() {
	byte answer, k;
end:
	do
#ifndef LIVENESS
	/* Nobody can do anything any more. */
	:: timeout -> ALWAYS(everybody_comes_to_rest, was_cut || AT_REST); break
#endif
	/* Sessions of the dead expire. */
	:: d_step { forgotten[0] -> forgotten[0] = 0 }
	:: d_step { forgotten[1] -> forgotten[1] = 0 }
#if AGENTS > 2
	:: d_step { forgotten[2] -> forgotten[2] = 0 }
#endif

#ifdef LOSE
	:: d_step { late_place[0] != NONE -> arrive(0) }
	:: d_step { late_place[0] != NONE -> forget(0) }
	:: d_step { late_place[1] != NONE -> arrive(1) }
	:: d_step { late_place[1] != NONE -> forget(1) }
#if AGENTS > 2
	:: d_step { late_place[2] != NONE -> arrive(2) }
	:: d_step { late_place[2] != NONE -> forget(2) }
#endif
#endif

#ifdef EVICT
	/* A session expires under a living agent, or somebody evicts its place. */
	:: d_step { evict(0) }
	:: d_step { evict(1) }
#if AGENTS > 2
	:: d_step { evict(2) }
#endif
#endif

#ifdef CRASH
	:: d_step { faults > 0 && RUNS(0) -> faults--; kill(0) }
	:: d_step { faults > 0 && RUNS(1) -> faults--; kill(1) }
#if AGENTS > 2
	:: d_step { faults > 0 && RUNS(2) -> faults--; kill(2) }
#endif
#endif

#ifdef POWER
	/* The volume's host loses power. Of what was not synced any turn is there, or not;
	   and the length may be what it was, with zeros for what is not. What is there when it
	   is back is on its disk. */
	:: atomic {
		faults > 0 && (visible & ~durable) -> faults--;
		powerless = true;
		power_off(0); power_off(1);
#if AGENTS > 2
		power_off(2);
#endif
		k = 1;
		do
		:: k <= size && !(visible & BIT(k) & ~durable) -> k++
		:: k <= size && (visible & BIT(k) & ~durable) -> visible = visible & ~BIT(k); k++
		:: k <= size && (visible & BIT(k) & ~durable) -> durable = durable | BIT(k); k++
		:: k > size -> break
		od;
		k = 0;
		dirty = 0;
		if
		:: true
		:: !(visible & BIT(size)) ->
			do
			:: size > 0 && !(visible & BIT(size)) -> size--
			:: else -> break
			od
		fi;
		if
		:: size > 0 && !(visible & BIT(size)) -> REACHED(power_zeros)
		:: size > 0 && (visible & BIT(size)) && (BELOW(size) & ~visible) -> REACHED(power_hole)
		:: else
		fi
	}
#endif

#ifdef CUT
	/* With all agents stopped the volume goes back: the file loses its last turn, be it
	   on the disk or not. Nobody may go on as if nothing had happened. */
	:: d_step {
		faults > 0 && !was_cut && size > 0 -> faults--;
		was_cut = true;
		kill_running(0); kill_running(1);
#if AGENTS > 2
		kill_running(2);
#endif
		visible = visible & ~BIT(size); durable = durable & ~BIT(size); dirty = dirty & ~BIT(size);
		size--
	}
#endif
	od
}

#ifdef LIVENESS
/* With weak fairness, and finitely many faults: in the end every record is acknowledged, or
   was lost with a crash of its agent, and turns/ is empty. */
ltl live { <> [] AT_REST }
#endif
