/* Times by a device's own events: what lies between two of them in its queue, the host's launches
 * left out as long as the queue does not run empty. */
#ifndef ANEMO_EVENT_TIMER_H
#define ANEMO_EVENT_TIMER_H

#include "harness/measure/sample.h"

/* Close with anemo_event_timer_close. Takes a millisecond: measures what an empty stretch lasts. */
anemo_status anemo_event_timer_open(anemo_device *device, anemo_timer *out, anemo_error *err);
void anemo_event_timer_close(anemo_timer *timer); /* one that is all 0 is fine */

#endif
