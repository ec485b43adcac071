/** The nine steps, as every page's navigation lists them. */
import type { RoadmapStep } from './types'

/** The steps as the navigation of every page lists them. */
export const STEPS = [
  'Identify use cases',
  'Agree on systems of record',
  'Define success criteria',
  'Evaluate data models',
  'Analyse workflows',
  'Begin automation',
  'Develop analytical workflows',
  'Adopt new skills',
  'Customise techniques',
] as const

/** Whether a step can be scored from data that flowed. */
export const measured = (step: RoadmapStep | undefined): boolean => step !== undefined && step.score !== null
