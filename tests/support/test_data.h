/* Where tests find the real files that are too large for the repository. */
#ifndef ANEMO_TEST_DATA_H
#define ANEMO_TEST_DATA_H

/* Path of a file under $ANEMO_TEST_DATA, else ../shared/data beside the source tree; malloc'ed.
 * NULL where it is absent: the test then skips. */
char *test_data_path(const char *relative);

#endif
