/* Writes a model as a Q4_0 GGUF whose scales may be wrong: what a broken quantiser would have made.
 */
#ifndef TEST_Q4_GGUF_H
#define TEST_Q4_GGUF_H

/* model: a Hugging Face directory of a Mixtral. scale multiplies every Q4_0 scale: 1 is right. The
 * file has no vocabulary. */
void q4_gguf_write(const char *model, double scale, const char *path);

#endif
